"""``python -m diag.hardcases``."""

from diag.hardcases.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
