"""``python -m reports``."""

from reports.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
