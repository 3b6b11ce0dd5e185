"""How long the first command takes, and how much of that is ours and not the libraries' import.

python -m benchmarks.main_job [--engine general]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.sides import add_engine_option

ROOT = Path(__file__).parent.parent
RUNS = 3
JOB = ["--subject", "Apple", "--quiet"]
OWN_WORK = """
import sys, time
began = time.perf_counter()
import torch, transformers
from transformer_lens.model_bridge import TransformerBridge
imported = time.perf_counter()
from diag.keys.command import main
main(sys.argv[1:])
print(imported - began, time.perf_counter() - imported)
"""


def run(*words: str) -> tuple[float, str]:
    """Wall-clock seconds of a Python process, and what it printed."""
    with tempfile.TemporaryDirectory() as nothing_cached:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT, check=True, capture_output=True, text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "ROME_DIAGNOSIS_CACHE": nothing_cached},
        )  # fmt: skip
        return time.perf_counter() - began, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the first command takes.")
    add_engine_option(parser)
    job = [*JOB, "--engine", parser.parse_args().engine]
    print(f"{os.cpu_count()} cores, median of {RUNS} runs, seconds")
    helped = [run("-m", "diag.keys", "--help")[0] for _ in range(RUNS)]
    print(f"{'--help':<30} {statistics.median(helped):6.2f}")
    seconds = [run("-m", "diag.keys", *job)[0] for _ in range(RUNS)]
    print(f"{'main job, whole process':<30} {statistics.median(seconds):6.2f}")
    parts = [[float(x) for x in run("-c", OWN_WORK, *job)[1].split()] for _ in range(RUNS)]
    print(f"{'  importing the libraries':<30} {statistics.median(p[0] for p in parts):6.2f}")
    print(f"{'  our own work':<30} {statistics.median(p[1] for p in parts):6.2f}")


if __name__ == "__main__":
    main()
