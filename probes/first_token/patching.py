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

from probes.first_token.subjects import Subject
from probes.forward.counterfactual import Patch, Place, Reading, perform_readings, record
from probes.model.loaded import LoadedModel
from probes.statistics import Estimate, estimate_mean
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import NO_EFFECT, SAME_RHO

Direction = Literal["into_bare", "into_prefixed"]
WAYS = (("bare", "prefixed"), ("prefixed", "bare"))  # into which run, from which


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
        recovered: Share of the gap between the ρ of the run patched into and that of the run
            patched from that the patch closes: 0 none, 1 all.
    """

    block: int
    site: str
    direction: Direction
    rho: Estimate
    recovered: float


@dataclass(frozen=True)
class Patching:
    """All patches, and the checks that they do what they should.

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


@dataclass(frozen=True)
class _Runs:
    """The bare and the prefixed run of every subject, and what was recorded in them."""

    model: LoadedModel
    layer: int
    runs: dict[str, list[Reading]]
    recorded: dict[str, dict[Place, list[Tensor]]]
    keys: dict[str, Tensor]
    directions: Tensor
    seed: int

    def rho(self, keys: Tensor) -> Tensor:
        """ρ of each subject's key."""
        return (keys * self.directions).sum(-1)

    def patched(self, into: str, origin: str, places: Sequence[Place], shift: int = 0) -> Tensor:
        """Keys of one run with activations of another written in, from ``shift`` subjects on."""
        n = len(self.directions)
        patches = [
            Patch(place, [self.recorded[origin][place][(i + shift) % n] for i in range(n)])
            for place in places
        ]
        return perform_readings(self.model, self.runs[into], self.layer, patches=patches)

    def error(self, into: str, origin: str, places: Sequence[Place]) -> float:
        """Largest difference between ρ of the patched run and of the one patched from."""
        patched = self.rho(self.patched(into, origin, places))
        return float((patched - self.rho(self.keys[origin])).abs().max())

    def effect(self, block: int, site: str, into: str, origin: str, at: list[Place]) -> Patched:
        """What one patch does to ρ."""
        values = self.rho(self.patched(into, origin, at))
        before = self.rho(self.keys[into])
        gap = float((self.rho(self.keys[origin]) - before).mean())
        return Patched(
            block,
            site,
            "into_bare" if into == "bare" else "into_prefixed",
            _over(values, self.seed),
            float((values - before).mean()) / gap if gap else 0.0,
        )


@dataclass(frozen=True)
class _Places:
    """Where activations are written, up to the key of one block."""

    single: list[Place]
    attention: list[Place]
    embedding: Place
    entering: Place  # the residual stream that enters the edited MLP

    @property
    def everything(self) -> list[Place]:
        """The embedding and every attention output: together they determine the key."""
        return [self.embedding, *self.attention]

    def sets(self, layer: int) -> list[tuple[int, str, list[Place]]]:
        """Block, name and places of every patch that is performed."""
        return [
            *((block, site, [(block, site)]) for block, site in self.single),
            (layer, "resid_mid", [self.entering]),
            (0, "embedding", [self.embedding]),
            *((b, "attention_up_to", self.attention[: b + 1]) for b in range(layer + 1)),
            (layer, "embedding_and_attention", self.everything),
        ]


def patch(
    model: LoadedModel, subjects: Sequence[Subject], layer: int, *, seed: int = 0
) -> Patching:
    """Patches every block up to the edited one, each subject after one prefix.

    Args:
        model: The model.
        subjects: The measured subjects.
        layer: The edited block.
        seed: Seed of the bootstrap over subjects.

    Returns:
        The effects on ρ.

    Raises:
        UserError: If a patch that must restore the key does not, or one that must change it does
            not: then the model silently ignores patches.
    """
    places = _places(layer)
    runs = _record(model, subjects, layer, places, seed)
    checks = _check(runs, places)
    return Patching(
        rho_bare=_over(runs.rho(runs.keys["bare"]), seed),
        rho_prefixed=_over(runs.rho(runs.keys["prefixed"]), seed),
        patches=[
            runs.effect(block, site, into, origin, at)
            for block, site, at in places.sets(layer)
            for into, origin in WAYS
        ],
        **checks,
    )


def _places(layer: int) -> _Places:
    """Every place from which the key of a block is computed."""
    return _Places(
        single=[
            place
            for block in range(layer + 1)
            for place in _of_block(block)
            if place != (layer, "mlp")  # it is computed from the key
        ],
        attention=[(block, "attention") for block in range(layer + 1)],
        embedding=(0, "resid_pre"),
        entering=(layer, "resid_mid"),
    )


def _of_block(block: int) -> list[Place]:
    """Places of one block that are patched one by one."""
    return [(block, "resid_pre"), (block, "attention"), (block, "mlp")]


def _record(
    model: LoadedModel, subjects: Sequence[Subject], layer: int, places: _Places, seed: int
) -> _Runs:
    """Performs both runs of every subject, unpatched."""
    pairs = [subject.pairs[0] for subject in subjects]
    runs = {
        "bare": [pair.bare_run() for pair in pairs],
        "prefixed": [pair.prefixed_run() for pair in pairs],
    }
    needed = [*places.single, places.entering]
    return _Runs(
        model=model,
        layer=layer,
        runs=runs,
        recorded={name: record(model, group, layer, needed) for name, group in runs.items()},
        keys={name: perform_readings(model, group, layer) for name, group in runs.items()},
        directions=torch.stack([subject.direction for subject in subjects]),
        seed=seed,
    )


def _check(runs: _Runs, places: _Places) -> dict[str, float]:
    """The errors and the control of :class:`Patching`.

    Raises:
        UserError: If patches are not performed as described.
    """
    entering = [places.entering]
    null = max(runs.error(name, name, [*places.everything, *entering]) for name in runs.runs)
    residual = max(runs.error(into, origin, entering) for into, origin in WAYS)
    complete = max(runs.error(into, origin, places.everything) for into, origin in WAYS)
    control = float("nan")
    # Only subjects of equally many tokens can be exchanged.
    if len({run.tail for run in runs.runs["bare"]}) == 1:
        bare = runs.keys["bare"]
        foreign = runs.patched("bare", "bare", entering, shift=1)
        control = float(((foreign - bare).norm(dim=-1) / bare.norm(dim=-1)).mean())
    if (
        null > NO_EFFECT.value
        or residual > SAME_RHO.value
        or complete > SAME_RHO.value
        or control == 0.0
    ):
        raise UserError(
            f"patches are not performed as described on {runs.model.name}: ρ is off by {null:.2g} "
            f"with a run's own activations, by {residual:.2g} with the residual stream that enters "
            f"the edited MLP, by {complete:.2g} with the embedding and all attention outputs"
        )
    return {
        "null_error": null,
        "residual_error": residual,
        "attention_error": complete,
        "control": control,
    }


def _over(values: Tensor, seed: int) -> Estimate:
    """Mean over subjects with its interval."""
    over = estimate_mean(values.tolist(), seed=seed)
    assert over is not None
    return over
