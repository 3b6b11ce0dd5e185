"""Peak memory of every command on any model, beside what its weights and C take.

    python -m benchmarks.memory --model DIR --edits EDITS.json

Each command runs in a process of its own. What the libraries take before any model is loaded is
measured the same way and subtracted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.sides import add_engine_option
from probes.setup import load_model
from rome_diagnosis.errors import UserError

LIMIT = 1.3  # of the weights, beside C
LIBRARIES = "import torch, transformers, scipy.stats, transformer_lens.model_bridge as _"
TOKENS = 5  # a dimension of C; by a C of fewer than four nothing is called safe, nor applied


def commands(
    options: argparse.Namespace, layer: int, width: int, folder: Path
) -> Mapping[str, Sequence[str]]:
    """What is run, by name; the first one estimates the C that the others read."""
    moment = str(folder / "c.safetensors")
    run = ["--model", options.model, "--engine", options.engine, "--layer", str(layer)]
    site = [*run, "--second-moment", moment]
    one = ["--subject", "Vienna", "--prompt", "{} is a city in", "--target-new", "Peru"]
    text = [] if options.text is None else ["--text", str(options.text)]
    listed = [str(options.edits), *site]
    return {
        "diag.covariance": [
            *run, *text, "--max-tokens", str(TOKENS * width), "-o", moment,
        ],
        "diag.keys": ["--subject", "Vienna", *site],
        "diag.screen": [*listed, "-o", str(folder / "screened.parquet")],
        "diag.batch": [*listed, "--method", "memit"],
        "diag.sequence": listed,
        "diag.verify": [*one, *site],
        "diag.apply": [*one, *site, "--method", "c_rome", "--output", str(folder / "edited")],
        "probes.first_token": site,
    }  # fmt: skip


def peak(arguments: Sequence[str]) -> float:
    """Largest resident memory of Python running something, in bytes.

    Args:
        arguments: What follows ``python`` on the command line.

    Returns:
        The peak, of that process alone: a helper between the two asks for its only child's.

    Raises:
        UserError: If it fails, e.g. because no edit of this model is safe.
    """
    asked = "import resource, subprocess, sys; p = subprocess.run(sys.argv[1:], stdout=-3)"
    printed = "print(p.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    run = [sys.executable, "-c", f"{asked}; {printed}", sys.executable, *arguments]
    done = subprocess.run(run, capture_output=True, text=True)
    code, kilobytes = done.stdout.split()
    if code != "0":
        raise UserError(f"python {' '.join(arguments)}: {done.stderr[-500:].strip()}")
    return float(kilobytes) * 1024


def main() -> int:
    """Runs every command once and prints a line for each.

    Returns:
        0, or 1 if one takes more than the limit.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--layer", type=int)
    parser.add_argument("--edits", type=Path, required=True)
    parser.add_argument("--text", type=Path, help="what C is of, instead of the packaged text")
    parser.add_argument("--only", nargs="+", help="these commands, after the first")
    parser.add_argument("--json", type=Path)
    add_engine_option(parser)
    args = parser.parse_args()
    loaded = load_model(args.model)
    layer = loaded.default_layer() if args.layer is None else args.layer
    weights = loaded.weight_bytes
    width = int(loaded.config.d_mlp)
    moment = width**2 * 8
    allowed = LIMIT * weights + moment
    del loaded
    libraries = peak(["-c", LIBRARIES])
    print(f"weights {weights / 1e9:.2f} GB, C {moment / 1e9:.3f}, libraries {libraries / 1e9:.2f}")
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        for command, options in commands(args, layer, width, Path(name)).items():
            if args.only and command not in ("diag.covariance", *args.only):
                continue
            try:
                taken = peak(["-m", command, *options]) - libraries
            except UserError as error:
                print(f"{command:20} not measured: {error}", flush=True)
                continue
            share = (taken - moment) / weights
            peaks[command] = {"bytes": taken, "of_weights": share}
            print(
                f"{command:20} {taken / 1e9:6.2f} GB, {share:5.2f} × weights, beside C", flush=True
            )
    if args.json:
        result = {"weights": weights, "second_moment": moment, "libraries": libraries}
        args.json.write_text(json.dumps(result | {"commands": peaks}, indent=1))
    return int(any(each["bytes"] > allowed for each in peaks.values()))


if __name__ == "__main__":
    sys.exit(main())
