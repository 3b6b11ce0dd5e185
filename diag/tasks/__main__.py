"""``python -m diag.tasks``."""

from diag.tasks.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
