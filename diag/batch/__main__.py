"""``python -m diag.batch``."""

from diag.batch.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
