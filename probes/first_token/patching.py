"""At which block does ρ recover? Activations of the prefixed run, written into the bare one.

Block by block, what attention or the MLP adds at the subject, or the residual stream that enters,
is taken from one run and written into the other, in both directions. What a patch restores was
carried by it. Two patches must restore everything: the residual stream that enters the edited
MLP, and the embedding together with every attention output up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from probes.definitions import NO_EFFECT, SAME_RHO
from probes.first_token.subjects import Subject
from probes.forward.counterfactual import Patch, Place, Run, perform, record
from probes.model.loaded import LoadedModel
from probes.statistics import Estimate, estimate
from rome_diagnosis.errors import UserError

Direction = Literal["into_bare", "into_prefixed"]


@dataclass(frozen=True)
class Patched:
    """What one patch does to ρ, averaged over subjects.

    Attributes:
        block: The patched block; the last one where a patch spans several.
        site: ``resid_pre``, ``attention``, ``mlp``, ``resid_mid``, or a set of places:
            ``attention_up_to`` (all attention outputs so far), ``embedding``,
            ``embedding_and_attention``.
        direction: From the prefixed run into the bare one, or back.
        rho: ρ of the patched run's key.
        recovered: Its way from the ρ of the run patched into to that of the run patched from: 0
            none of it, 1 all.
    """

    block: int
    site: str
    direction: Direction
    rho: Estimate
    recovered: float


@dataclass(frozen=True)
class Patching:
    """All patches, and the checks that they are what they seem.

    Attributes:
        rho_bare: ρ of the bare run's key.
        rho_prefixed: ρ of the prefixed run's key.
        patches: Every patch, block by block.
        null_error: Largest change of ρ when a run is patched with its own activations.
        residual_error: Largest difference from the other run's ρ with the residual stream that
            enters the edited MLP patched.
        attention_error: The same with the embedding and every attention output patched.
        control: Mean change of a key, relative to its length, when the residual stream that
            enters the edited MLP is patched with another subject's.
    """

    rho_bare: Estimate
    rho_prefixed: Estimate
    patches: list[Patched]
    null_error: float
    residual_error: float
    attention_error: float
    control: float


def patch(
    model: LoadedModel, subjects: Sequence[Subject], layer: int, *, seed: int = 0
) -> Patching:
    """Patches every block up to the edited one, each subject behind one prefix.

    Args:
        model: The model.
        subjects: The measured subjects.
        layer: The edited block.
        seed: Of the bootstrap over subjects.

    Returns:
        The effects on ρ.

    Raises:
        UserError: If a patch that must restore the key does not, or one that must change it does
            not: then the model silently ignores patches.
    """
    pairs = [subject.pairs[0] for subject in subjects]
    runs: dict[str, list[Run]] = {
        "bare": [pair.bare_run() for pair in pairs],
        "prefixed": [pair.prefixed_run() for pair in pairs],
    }
    directions = torch.stack([subject.direction for subject in subjects])
    embedding: Place = (0, "resid_pre")
    attention: list[Place] = [(block, "attention") for block in range(layer + 1)]
    entering: Place = (layer, "resid_mid")
    single: list[Place] = [
        place
        for block in range(layer + 1)
        for place in ((block, "resid_pre"), (block, "attention"), (block, "mlp"))
        if place != (layer, "mlp")  # it is computed from the key
    ]
    places: list[Place] = [*single, entering]
    source = {name: record(model, group, layer, places) for name, group in runs.items()}
    keys = {name: perform(model, group, layer) for name, group in runs.items()}
    rho = {name: (found * directions).sum(-1) for name, found in keys.items()}

    def patched(into: str, origin: str, chosen: Sequence[Place], shift: int = 0) -> Tensor:
        """Keys of the runs patched into, from the other runs or from other subjects' ones."""
        n = len(subjects)
        written = [
            Patch(place, [source[origin][place][(i + shift) % n] for i in range(n)])
            for place in chosen
        ]
        return perform(model, runs[into], layer, patches=written)

    def rho_of(found: Tensor) -> Tensor:
        return (found * directions).sum(-1)

    def error(into: str, origin: str, chosen: Sequence[Place]) -> float:
        return float((rho_of(patched(into, origin, chosen)) - rho[origin]).abs().max())

    ways = (("bare", "prefixed"), ("prefixed", "bare"))
    everything = [embedding, *attention]
    null = max(error(name, name, [*everything, entering]) for name in runs)
    residual = max(error(into, origin, [entering]) for into, origin in ways)
    complete = max(error(into, origin, everything) for into, origin in ways)
    # A subject alike in length is another subject, so its stream is another one.
    foreign = patched("bare", "bare", [entering], 1) if _same_tails(runs["bare"]) else None
    control = (
        float("nan")
        if foreign is None
        else float(((foreign - keys["bare"]).norm(dim=-1) / keys["bare"].norm(dim=-1)).mean())
    )
    if null > NO_EFFECT or residual > SAME_RHO or complete > SAME_RHO or control == 0.0:
        raise UserError(
            f"patches are not performed as described on {model.name}: ρ is off by {null:.2g} with "
            f"a run's own activations, by {residual:.2g} with the residual stream that enters the "
            f"edited MLP, by {complete:.2g} with the embedding and all attention outputs"
        )

    sets: list[tuple[int, str, list[Place]]] = [(b, site, [(b, site)]) for b, site in single]
    sets.append((layer, "resid_mid", [entering]))
    sets.append((0, "embedding", [embedding]))
    sets += [(block, "attention_up_to", attention[: block + 1]) for block in range(layer + 1)]
    sets.append((layer, "embedding_and_attention", everything))
    found = []
    for block, site, chosen in sets:
        for into, origin in ways:
            values = rho_of(patched(into, origin, chosen))
            way = float((rho[origin] - rho[into]).mean())
            found.append(
                Patched(
                    block,
                    site,
                    "into_bare" if into == "bare" else "into_prefixed",
                    _over(values, seed),
                    float((values - rho[into]).mean()) / way if way else 0.0,
                )
            )
    return Patching(
        rho_bare=_over(rho["bare"], seed),
        rho_prefixed=_over(rho["prefixed"], seed),
        patches=found,
        null_error=null,
        residual_error=residual,
        attention_error=complete,
        control=control,
    )


def _same_tails(runs: Sequence[Run]) -> bool:
    return len({run.tail for run in runs}) == 1


def _over(values: Tensor, seed: int) -> Estimate:
    found = estimate(values.tolist(), seed=seed)
    assert found is not None
    return found
