"""``python -m probes.bundled``."""

from probes.bundled.command import main
from rome_diagnosis.command import run

if __name__ == "__main__":
    run(main)
