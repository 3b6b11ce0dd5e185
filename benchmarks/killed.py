"""Kills screening and estimates of C at random moments: is anything lost or doubled?

    python -m benchmarks.killed --dataset COUNTERFACT.json --kills 50

Every kill is a ``kill -9`` at a random moment of a run's expected duration. A killed run resumes
when the same command is given again; one that gets through is compared and begins anew. Tables
must hold the same rows in the same order with equal values, and C must be equal to 1e-12.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from probes.second_moment import stored as covariance

TOLERANCE = 1e-12


def same_table(one: Path, other: Path) -> float:
    """Largest relative difference of two tables' numbers, infinite where rows differ."""
    a, b = pd.read_parquet(one), pd.read_parquet(other)
    texts = [name for name in a.columns if a[name].dtype.kind != "f"]
    if len(a) != len(b) or list(a["row"]) != list(range(len(a))) or not a[texts].equals(b[texts]):
        return float("inf")
    numbers = [name for name in a.columns if name not in texts]
    if not a[numbers].isna().equals(b[numbers].isna()):
        return float("inf")
    gap = (a[numbers] - b[numbers]).abs() / a[numbers].abs().clip(lower=1e-300)
    return float(gap.max().max())


def same_moment(one: Path, other: Path) -> float:
    """Largest difference of two moments' entries, in units of the largest entry."""
    a, b = covariance.load_moment(one).moment, covariance.load_moment(other).moment
    assert a is not None and b is not None
    return float((a - b).abs().max() / a.abs().max())


def torment(
    name: str,
    command: Callable[[Path], Sequence[str]],
    compare: Callable[[Path, Path], float],
    suffix: str,
    kills: int,
    generator: random.Random,
) -> bool:
    """Kills one command again and again and compares every result it arrives at.

    Args:
        name: What to call it.
        command: The words that make a result of that name.
        compare: How far two results are apart.
        suffix: Extension of a result's file name, with its dot.
        kills: How many times to kill.
        generator: Draws the moments.

    Returns:
        Whether every result was the undisturbed one.
    """
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = (Path(folder, n).with_suffix(suffix) for n in ("whole", "killed"))
        began = time.monotonic()
        subprocess.run(command(undisturbed), check=True)
        duration = time.monotonic() - began
        gaps: list[float] = []
        done = 0
        while True:
            process = subprocess.Popen(command(killed))
            # Starting takes a part of it: moments are drawn from all of a run, and a bit beyond.
            moment = generator.uniform(0.05, 1.1) * duration
            try:
                process.wait(timeout=moment if done < kills else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                continue
            assert process.returncode == 0, f"{name} ended with code {process.returncode}"
            gaps.append(compare(undisturbed, killed))
            for leftover in Path(folder).glob("killed*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            if done == kills:
                break
    held = max(gaps) <= TOLERANCE
    print(
        json.dumps(
            {"what": name, "kills": done, "results": len(gaps), "largest_difference": max(gaps),
             "seconds_undisturbed": round(duration, 1), "held": held}
        ),
        flush=True,
    )  # fmt: skip
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="e.g. COUNTERFACT")
    parser.add_argument("--kills", type=int, default=50, help="of both commands together")
    parser.add_argument(
        "--what", choices=("both", "screening", "covariance"), default="both", help="whom to kill"
    )
    parser.add_argument("--max-tokens", type=int, default=300_000, help="of the estimate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)

    def screening(output: Path) -> list[str]:
        words = [sys.executable, "-m", "diag.screen", options.dataset, "-o", str(output)]
        return [*words, "--quiet"]

    def estimate(output: Path) -> list[str]:
        words = [sys.executable, "-m", "diag.covariance", "--layers", "1,2", "--quiet"]
        words += ["--max-tokens", str(options.max_tokens), "--checkpoint-every", "1"]
        return [*words, "-o", str(output.parent / f"{output.stem}{{layer}}{output.suffix}")]

    def same_moments(one: Path, other: Path) -> float:
        return max(same_moment(_of(one, i), _of(other, i)) for i in (1, 2))

    half = options.kills // 2
    held = True
    if options.what != "covariance":
        held &= torment("screening", screening, same_table, ".parquet", half, generator)
    if options.what != "screening":
        held &= torment("covariance", estimate, same_moments, ".safetensors", half, generator)
    return 0 if held else 1


def _of(path: Path, layer: int) -> Path:
    return path.with_name(f"{path.stem}{layer}{path.suffix}")


if __name__ == "__main__":
    raise SystemExit(main())
