"""Batches of the family beside its published code: z, keys, ΔW and time.

How many times as fast ours is, is the ratio of the processor's seconds: both sides run one thread,
and other load lengthens the clock's.

ΔW is compared twice, as a matrix and as what it changes at ordinary tokens: the bundled model's C
has directions in which ordinary keys have a millionth of a millionth of their power, and rounding
is large there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from benchmarks.published.reference_batches import (
    AlphaEditReference,
    EmmetReference,
    EncoreReference,
    MemitReference,
    PmetReference,
    Published,
)
from benchmarks.published.reference_easyedit import EasyEditCRome, EasyEditMemit, EasyEditRome
from benchmarks.sides import settle, timed
from diag.batch.perform import PerformedBatch, performed
from diag.batch.settings import Workplace
from diag.mathematics.metrics import combined
from probes import bundled
from probes.model.load import load
from probes.request.request import Request
from rome_diagnosis.methods import MethodKey

COSINE, KEYS, CHANGE, FASTER = 0.9999, 1e-5, 1e-4, 5.0  # the project's bounds
# The option that names a checkout, the method, and what runs it.
REFERENCES: Sequence[tuple[str, str, type[MemitReference]]] = (
    ("memit", "memit", MemitReference),
    ("emmet", "emmet", EmmetReference),
    ("pmet", "pmet", PmetReference),
    ("alphaedit", "alphaedit", AlphaEditReference),
    ("encore", "encore", EncoreReference),
    ("collapse", "memit", EasyEditMemit),
    ("collapse", "rome", EasyEditRome),
    ("collapse", "c_rome", EasyEditCRome),
)


def compare(
    found: Workplace,
    reference: type[MemitReference],
    checkout: Path,
    sequences: Mapping[str, Sequence[Sequence[Request]]],
) -> dict[str, Any]:
    """Both implementations on the same edits.

    Args:
        found: The method, its layers, contexts and second moments.
        reference: What runs the published code.
        checkout: That code.
        sequences: Batches that are made one after another, by name.

    Returns:
        For each name, the last batch of its sequence compared.
    """
    import transformers

    path = bundled.model_path()
    ours = dataclasses.replace(
        found, model=load(path, name="bundled", device="cpu", dtype="float64")
    )
    moments = {layer: moment.moment for layer, moment in found.moments.items()}
    rows = {}
    for name, batches in sequences.items():
        plain = transformers.AutoModelForCausalLM.from_pretrained(path).double().eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        theirs = reference(checkout, plain, tokenizer, ours.chosen, moments)
        latest: PerformedBatch | None = None
        with ExitStack() as stack:
            for batch in batches:
                settle()
                their = theirs.batch(batch, found.prefixes)
                history = None if latest is None else latest.remembered
                writing = performed(ours, batch, history)
                latest, wall, processor = timed(lambda: stack.enter_context(writing))  # noqa: B023
        assert latest is not None
        rows[name] = {
            **_beside(latest, their, moments, found.method.along),  # type: ignore[arg-type]
            "wall_seconds": [their.wall, wall],
            "processor_seconds": [their.processor, processor],
            "times_faster": their.processor / processor,
        }
    return rows


def _beside(
    ours: PerformedBatch, their: Published, moments: Mapping[int, torch.Tensor], along: MethodKey
) -> dict[str, Any]:
    z = torch.stack([target.value for target in ours.targets])
    return {
        "z_cosine_least": float(torch.cosine_similarity(z, their.targets.double(), dim=1).min()),
        "layers": {
            layer.layer: {
                "keys": relative(combined(layer.keys, along), their.keys[layer.layer]),
                "change": relative(layer.update.change(), their.changes[layer.layer]),
                "change_at_ordinary_tokens": in_moment(
                    layer.update.change(), their.changes[layer.layer], moments[layer.layer]
                ),
            }
            for layer in ours.layers
        },
    }


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖."""
    return float((ours - theirs.double()).norm() / theirs.double().norm())


def in_moment(ours: torch.Tensor, theirs: torch.Tensor, moment: torch.Tensor) -> float:
    """The same for what the changes do at ordinary tokens: in the norm √tr(ΔᵀCΔ)."""
    sizes = [float((d * (moment @ d)).sum()) ** 0.5 for d in (ours - theirs, theirs)]
    return sizes[0] / sizes[1]


def beyond(row: Mapping[str, Any]) -> list[str]:
    """Which of the project's bounds a comparison breaks, time aside."""
    layers = row["layers"].values()
    holds = {
        "z": row["z_cosine_least"] >= COSINE,
        "keys": all(layer["keys"] <= KEYS for layer in layers),
        "ΔW": all(layer["change"] <= CHANGE for layer in layers),
    }
    return [name for name, holding in holds.items() if not holding]
