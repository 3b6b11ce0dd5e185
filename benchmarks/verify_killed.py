"""Kills diag.verify or diag.sequence at random moments: do they end like an undisturbed run?

    python -m benchmarks.verify_killed --kills 10 --edits 6
    python -m benchmarks.verify_killed --what sequence --kills 30 --edits 6

A killed run resumes from its journal; one that gets through begins again.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from probes import bundled

WORDS = {
    "verify": ["diag.verify", "--edits", str(bundled.facts_path())],
    "sequence": [
        "diag.sequence", str(bundled.facts_path()), "--perform", "--method", "memit_seq",
        "--weight", "512", "--batch", "2",
    ],
}  # fmt: skip


def read(path: Path) -> Any:
    """The document without when and by which command it was made."""
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["created"], document["command"]
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--what", choices=tuple(WORDS), default="verify")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--edits", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    words = [
        sys.executable, "-m", *WORDS[options.what], "--limit", str(options.edits), "--max-texts",
        "5", "--generated-tokens", "8", "--quiet", "--json",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = (Path(folder) / name for name in ("undisturbed", "killed"))
        journal = Path(f"{killed}.journal")
        start = time.monotonic()
        subprocess.run([*words, str(undisturbed)], check=True)
        duration = time.monotonic() - start
        lines = []
        while len(lines) < options.kills:
            process = subprocess.Popen([*words, str(killed)])
            try:
                process.wait(timeout=generator.uniform(0.2, 1.0) * duration)
                killed.unlink()  # it got through: begin again
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                lines.append(journal.read_bytes().count(b"\n") if journal.exists() else 0)
        subprocess.run([*words, str(killed)], check=True)
        same = read(undisturbed) == read(killed)
    print(f"killed {len(lines)} times, with {lines} lines in the journal; the same result: {same}")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
