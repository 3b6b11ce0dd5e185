"""What the first-token probes must show on the bundled model, with the seconds they take.

python -m benchmarks.first_token [--engine general]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.sides import add_engine_option

ROOT = Path(__file__).parent.parent
JOB = ["-m", "probes.first_token", "--quiet", "--json"]


def document(engine: str) -> tuple[float, dict[str, Any]]:
    """Wall-clock seconds of the whole process, and the document it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "first_token.json"
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, *JOB, str(path), "--engine", engine], cwd=ROOT, check=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        return time.perf_counter() - began, json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description="The first-token probes, and their seconds.")
    add_engine_option(parser)
    seconds, findings = document(parser.parse_args().engine)
    layer = findings["site"]["layer"]
    block = findings["layers"][layer]
    probes = {tuple(pair["cells"]): pair["probe"] for pair in block["pairs"]}
    shares, patches = findings["attribution"], findings["patching"]
    effects = findings["interventions"]["effects"]
    null = next(effect for effect in effects if effect["hypothesis"] == "null")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end")
    print(f"{'seconds, whole process':<52} {seconds:8.1f}   wanted < 120")
    print(f"{'subjects':<52} {findings['subjects']['n']:8d}   wanted >= 100")
    for cells in (("first_bare", "later_bare"), ("ordinary_first", "ordinary_later")):
        probe = probes[cells]
        print(f"{'AUC, ' + ' / '.join(cells):<52} {probe['auc']:8.3f}")
        print(f"{'  with shuffled labels, mean':<52} {probe['null_mean']:8.3f}")
        print(f"{'  with shuffled labels, largest':<52} {probe['null_largest']:8.3f}")
    for name, value, wanted in (
        ("own position, change of ρ", abs(null["delta"]["mean"]), 1e-5),
        ("a run patched into itself, change of ρ", patches["null_error"], 1e-5),
        ("residual entering the MLP patched, error in ρ", patches["residual_error"], 1e-4),
        ("embedding and attention patched, error in ρ", patches["attention_error"], 1e-4),
        ("all three factors, error in ρ", shares["reproduction_error"], 1e-4),
        ("Shapley values, error of their sum", shares["efficiency_error"], 1e-6),
    ):
        print(f"{name:<52} {value:8.1e}   wanted < {wanted:.0e}")
    print(shares["words"])


if __name__ == "__main__":
    main()
