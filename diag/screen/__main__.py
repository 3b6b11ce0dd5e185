"""``python -m diag.screen``."""

from diag.screen.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
