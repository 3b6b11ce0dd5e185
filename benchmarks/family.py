r"""The family beside its published code, on the bundled model.

    python -m benchmarks.family --memit DIR --emmet DIR --pmet DIR --alphaedit DIR --encore DIR \
        --collapse DIR

Hands both sides the same weights in float64, the same contexts, C, hyper-parameters and edits, one
and a batch, in one run: cosine of z, keys, ΔW of each layer, time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diag.batch.settings import prepare_workplace
from probes import bundled
from probes.request.cases import EditCase, from_record
from probes.setup import Setup
from probes.target_value.method_file import MethodFile, defaults
from rome_diagnosis.methods import METHODS


def like_published(d_mlp: int) -> dict[str, dict[str, float]]:
    """What is not taken as it was published: λ, and λₙ, which stands beside λC.

    Args:
        d_mlp: Length of the model's keys.

    Returns:
        The parameters by method: λ is to d_mlp about what 15,000 is to GPT-J's 16,384.
    """
    weight = float(d_mlp)
    return {
        "memit": {"weight": weight},
        "pmet": {"weight": weight},
        "encore": {"weight": weight, "ridge": 20 * weight / 15_000},
    }


def method(name: str, layers: Sequence[int], **parameters: float) -> MethodFile:
    """A method with its published values but for layers and the parameters given."""
    chosen = defaults(name)
    return dataclasses.replace(
        chosen, layers=tuple(layers), parameters={**chosen.parameters, **parameters}
    )


def cases(n: int, seed: int) -> list[EditCase]:
    """Facts of the bundled world whose prompts begin with the subject, one for each subject."""
    facts = bundled.facts()
    random.Random(seed).shuffle(facts)
    by_subject = {fact["subject"]: fact for fact in facts if fact["prompt"].startswith("{}")}
    return [from_record(fact) for fact in list(by_subject.values())[:n]]


def published(options: argparse.Namespace) -> dict[str, Any]:
    """Each method beside its published code, on the same edits."""
    from benchmarks.published.batches import FASTER, REFERENCES, beyond, compare

    layers = [int(part) for part in options.layers.split(",")]
    n, like = options.edits, like_published(512)
    edits = [case.request for case in cases(2 * n, options.seed)]
    methods: dict[str, Any] = {}
    for option, row_name, reference in REFERENCES:
        checkout = getattr(options, option)
        if checkout is None:
            continue
        name = row_name if row_name == option else f"{row_name}, {option}"
        over_layers = METHODS[row_name].over_layers
        chosen = method(row_name, layers if over_layers else layers[:1], **like.get(row_name, {}))
        workplace = prepare_workplace(Setup(quiet=True), chosen)
        sequences = {"1": [edits[:1]]}
        if over_layers:
            sequences[str(n)] = [edits[:n]]
        if workplace.method.remembers:
            sequences[f"{n} after {n}"] = [edits[:n], edits[n:]]
        rows = compare(workplace, reference, checkout, sequences)
        methods[name] = {"parameters": dict(workplace.chosen.parameters), "edits": rows}
        for label, row in rows.items():
            theirs, ours = row["processor_seconds"]
            broken = [f"{what} beyond its bound" for what in beyond(row)]
            if name == "memit" and label == str(n) and row["times_faster"] < FASTER:
                broken.append(f"less than {FASTER:g} times as fast")
            print(f"{name}, {label}: published {theirs:.1f} s, ours {ours:.1f} s, "
                  f"{row['times_faster']:.1f} times as fast (processor); "
                  f"{', '.join(broken) or 'all bounds hold'}", flush=True)  # fmt: skip
    return {"layers": layers, "methods": methods}


def main() -> None:
    """Runs one part and prints it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--memit", type=Path, help="a checkout of kmeng01/memit")
    parser.add_argument(
        "--emmet", type=Path, help="of scalable-model-editing/unified-model-editing"
    )
    parser.add_argument("--pmet", type=Path, help="of xpq-tech/PMET")
    parser.add_argument("--alphaedit", type=Path, help="of jianghoucheng/AlphaEdit")
    parser.add_argument(
        "--encore", type=Path, help="of scalable-model-editing/knowledge-editing-regularization"
    )
    parser.add_argument("--collapse", type=Path, help="of WanliYoung/Collapse-in-Model-Editing")
    parser.add_argument("--layers", default="1,2,3")
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    document = published(options)
    text = json.dumps(document, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
