"""``python -m probes.first_token``."""

from probes.first_token.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
