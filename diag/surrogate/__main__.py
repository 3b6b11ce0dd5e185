"""``python -m diag.surrogate``."""

from diag.surrogate.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
