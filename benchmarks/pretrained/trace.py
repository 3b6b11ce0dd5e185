"""Where a model looks up the facts it knows: causal tracing, block by block.

    python -m benchmarks.pretrained.trace --model smollm2 --record docs/evidence/smollm2-trace.json
    python -m benchmarks.pretrained.trace docs/evidence/smollm2-trace.json

``--model`` traces packaged common facts, or those of the bundled world for its own model.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from diag.verify.behaviour import spread
from diag.verify.settings import Facts
from probes.keys.causal_trace import known, trace
from probes.setup import Setup
from probes.statistics import estimate_mean
from rome_diagnosis.disk import files


def record(name: str, n_facts: int, seed: int) -> dict[str, Any]:
    """Traces a model's facts.

    Args:
        name: The model, as ``--model`` takes it.
        n_facts: Trace at most this many facts.
        seed: Seed of the noise.

    Returns:
        Probabilities fact by fact, as plain JSON values.
    """
    model = Setup(model=name, quiet=True).load()
    facts = known(model, [case.request for case in Facts.for_model(model.name).cases])
    chosen = spread(facts, n_facts)
    result = trace(
        model, chosen, seed=seed,
        progress=lambda done: print(f"\r{done} of {len(chosen)}", end="", file=sys.stderr),
    )  # fmt: skip
    return {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "seed": seed,
        "known": len(facts),
        "window": result.window,
        "clean": [round(p, 6) for p in result.clean.tolist()],
        "noisy": [round(p, 6) for p in result.noisy.tolist()],
        "restored": [[round(p, 6) for p in row] for row in result.restored.tolist()],
    }


def table(recorded: Mapping[str, Any]) -> pd.DataFrame:
    """The indirect effect of each block's window with its interval over the draw of the facts."""
    rows = []
    for block in range(len(recorded["restored"][0])):
        effect = estimate_mean(
            [row[block] - noisy
             for row, noisy in zip(recorded["restored"], recorded["noisy"], strict=True)]
        )  # fmt: skip
        assert effect is not None
        rows.append(
            {
                "block": block,
                "gives back": f"{effect.mean:.3f}",
                "95% interval": f"{effect.low:.3f} to {effect.high:.3f}",
            }
        )
    return pd.DataFrame(rows).set_index("block")


def main() -> None:
    """Traces a model, or shows what was traced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recorded", nargs="?", help="a recorded trace to show")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--facts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="FILE")
    options = parser.parse_args()
    if options.recorded:
        recorded = json.loads(Path(options.recorded).read_text(encoding="utf-8"))
    else:
        recorded = record(options.model, options.facts, options.seed)
        if options.record:
            files.write_text(options.record, json.dumps(recorded) + "\n")
    clean, noisy = (pd.Series(recorded[name]).mean() for name in ("clean", "noisy"))
    print(
        f"{len(recorded['clean'])} of {recorded['known']} known facts; {recorded['window']} "
        f"blocks are restored together\nprobability of the answer {clean:.3f}, with noise on the "
        f"subject {noisy:.3f}\n"
    )
    print(table(recorded).to_string())


if __name__ == "__main__":
    main()
