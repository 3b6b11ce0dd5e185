"""Each hypothesis about the first position, tested by an intervention.

Every intervention changes one thing about the bare or the prefixed run and reports how ρ and the
key change. One that cannot change a key, on an architecture or for these subjects, says why. One
that should change keys but changes none raises an error: it was silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from probes.first_token.subjects import Subject, TokenPair
from probes.forward.counterfactual import (
    Patch,
    Place,
    Reading,
    causal,
    is_parallel,
    perform_readings,
    record,
)
from probes.model.loaded import LoadedModel
from probes.statistics import Estimate, estimate_mean
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import NO_EFFECT

Start = Literal["bare", "prefixed"]
PositionKind = Literal["absolute", "relative", "none"]


@dataclass(frozen=True)
class Effect:
    """What one intervention does.

    Attributes:
        name: The intervention.
        hypothesis: ``position``, ``token form``, ``self-interaction``, ``sink``, ``front`` or
            ``null``: what the intervention tests.
        meaning: What is done, in words.
        starts_from: The run it changes.
        reason: Why it does not apply; ``None`` where it was performed.
        n: How many subjects it was performed on.
        rho_before: ρ of the run's own key.
        rho_after: ρ of the key after the intervention.
        delta: Their difference.
        recovered: Share of the gap in ρ between the run it starts from and the other one that it
            closes: 0 none, 1 all.
        key_change: Mean length of the key's change over the key's length: the positive control.
        changed: Share of the runs whose key moved at all.
    """

    name: str
    hypothesis: str
    meaning: str
    starts_from: Start
    reason: str | None
    n: int
    rho_before: Estimate | None = None
    rho_after: Estimate | None = None
    delta: Estimate | None = None
    recovered: float | None = None
    key_change: float | None = None
    changed: float | None = None


@dataclass(frozen=True)
class Intervention:
    """One thing to change about a run.

    Attributes:
        name: A short name.
        hypothesis: See :class:`Effect`.
        meaning: What is done.
        starts_from: The run it changes.
        make: The changed run of a pair; ``None`` where this pair leaves nothing to change.
        nothing: Why a pair may leave nothing to change.
        patched: Whether attention outputs of the other run are written into it.
    """

    name: str
    hypothesis: str
    meaning: str
    starts_from: Start
    make: Callable[[TokenPair], Reading | None]
    nothing: str = ""
    patched: bool = False


def position_kind(model: LoadedModel, layer: int) -> PositionKind:
    """How a token's position reaches its key, determined by experiment.

    Args:
        model: The model.
        layer: The block whose keys are examined.

    Returns:
        ``absolute`` if a token alone has another key at another position (learned position
        embeddings), ``relative`` if only distances between tokens matter (rotary), ``none`` if
        neither changes a key at this block.
    """
    ids = (model.tokens("The weather was fine").ids * 3)[:3]
    far = min(model.n_ctx, 32) - 1
    alone = perform_readings(
        model, [Reading(ids[-1:], 0, 1), Reading(ids[-1:], 0, 1, [far])], layer
    )
    if _changes(alone[:1], alone[1:]).item() > NO_EFFECT.value:
        return "absolute"
    moved = [Reading(ids, 2, 1), Reading(ids, 2, 1, [0, 1, far])]
    if _changes(*perform_readings(model, moved, layer).split(1)).item() > NO_EFFECT.value:
        return "relative"
    return "none"


def catalogue(model: LoadedModel) -> list[Intervention]:
    """All interventions, including those that do not apply to the model."""
    return [*_on_position(), *_on_form(), *_on_attention(), *_on_preceding_token(model)]


def _on_position() -> list[Intervention]:
    """The token stays where it is, but its position is another."""
    return [
        Intervention(
            "own position", "null", "the first token gets the position it already has", "bare",
            lambda pair: replace(pair.bare_run(), positions=list(range(len(pair.bare_run().ids)))),
        ),
        Intervention(
            "later position", "position",
            "the first token gets the position it has after the prefix", "bare",
            lambda pair: _moved(pair.bare_run(), len(pair.prefix) + len(pair.head)),
        ),
        Intervention(
            "first position", "position", "the later token gets the first position", "prefixed",
            lambda pair: _moved(pair.prefixed_run(), len(pair.head)),
        ),
    ]  # fmt: skip


def _on_form() -> list[Intervention]:
    """The token is written as it is with or without a prefix."""
    return [
        Intervention(
            "spaced form", "token form",
            "the bare prompt with the token that follows a prefix", "bare",
            lambda pair: pair.bare_run(form=True) if pair.bare != pair.spaced else None,
            "the tokenizer writes the same token in both places",
        ),
        Intervention(
            "bare form", "token form", "after the prefix, the token of the bare prompt",
            "prefixed",
            lambda pair: pair.prefixed_run(form=False) if pair.bare != pair.spaced else None,
            "the tokenizer writes the same token in both places",
        ),
    ]  # fmt: skip


def _on_attention() -> list[Intervention]:
    """What the token attends to, or what attention gives it, is changed."""
    return [
        Intervention(
            "attention output", "self-interaction",
            "at every block the first token's attention output is the prefixed run's", "bare",
            lambda pair: pair.bare_run(), patched=True,
        ),
        Intervention(
            "sees the prefix", "self-interaction",
            "form and position stay, but the token attends to the prefix", "bare",
            lambda pair: pair.run(form=False, position=False, attention=True),
        ),
        Intervention(
            "non-causal row", "self-interaction",
            "the first token attends to the prompt's text after it", "bare", _non_causal,
            "the prompt ends with the subject",
        ),
        Intervention(
            "sees only itself", "self-interaction",
            "the later token attends to nothing but the subject", "prefixed",
            lambda pair: _alone(pair.prefixed_run()),
        ),
        Intervention(
            "sink blocked", "sink", "no later token attends to the first one", "prefixed",
            lambda pair: _without_sink(pair.prefixed_run()),
        ),
    ]  # fmt: skip


def _on_preceding_token(model: LoadedModel) -> list[Intervention]:
    """One token is put before the bare prompt."""
    tokenizer = model.tokenizer
    ends = {"end of text": tokenizer.eos_token_id, "begin of sequence": tokenizer.bos_token_id}
    tokens = {"neutral token": model.tokens("The").ids[-1]} | ends
    interventions = []
    for name, token in tokens.items():
        meaning = f"one token before the prompt: {name}"
        reason = f"the tokenizer has no {name} token"
        if name == "begin of sequence" and token == tokenizer.eos_token_id:
            token, reason = None, "it is the end-of-text token"
        if token is not None:
            meaning = f"one token before the prompt: {model.token_text(int(token))!r}"
            reason = "it is there already"
        interventions.append(
            Intervention(name, "front", meaning, "bare", _preceded_by(token), reason)
        )
    return interventions


def intervene(
    model: LoadedModel, subjects: Sequence[Subject], layer: int, *, seed: int = 0
) -> tuple[PositionKind, list[Effect]]:
    """Performs every intervention that applies, each subject after its own prefixes.

    Args:
        model: The model.
        subjects: The measured subjects.
        layer: The edited block.
        seed: Seed of the bootstrap over subjects.

    Returns:
        How position reaches the keys, and each intervention's effect.

    Raises:
        UserError: If the model silently ignores an intervention.
    """
    kind = position_kind(model, layer)
    blind = layer == 0 and is_parallel(model)
    pairs = [pair for subject in subjects for pair in subject.pairs]
    base = {
        "bare": perform_readings(model, [pair.bare_run() for pair in pairs], layer),
        "prefixed": perform_readings(model, [pair.prefixed_run() for pair in pairs], layer),
    }
    effects = []
    for one in catalogue(model):
        reason = _reason(one, kind, blind)
        runs = [one.make(pair) for pair in pairs]
        chosen = [i for i, run in enumerate(runs) if run is not None]
        if not chosen:
            reason = one.nothing
        if reason:
            effects.append(
                Effect(one.name, one.hypothesis, one.meaning, one.starts_from, reason, 0)
            )
            continue
        patches = _attention(model, [pairs[i] for i in chosen], layer) if one.patched else []
        after = perform_readings(
            model, [run for run in runs if run is not None], layer, patches=patches
        )
        effects.append(_effect(model, one, subjects, base, chosen, after, seed))
    return kind, effects


def _reason(one: Intervention, kind: PositionKind, blind: bool) -> str | None:
    """Why an intervention cannot change a key on this architecture."""
    if one.hypothesis == "position":
        if kind == "none":
            return "at this block the model's keys do not depend on position"
        if kind == "relative" and one.starts_from == "bare":
            return (
                "positions are relative (rotary): a token that sees no other has the same key "
                "everywhere"
            )
    if blind and one.hypothesis in ("self-interaction", "sink", "front"):
        return "attention and MLP run in parallel, so keys of block 0 depend on no other token"
    return None


def _effect(
    model: LoadedModel,
    one: Intervention,
    subjects: Sequence[Subject],
    base: dict[str, Tensor],
    chosen: Sequence[int],
    after: Tensor,
    seed: int,
) -> Effect:
    """What an intervention did to the chosen pairs, averaged over subjects."""
    owner = [i for i, subject in enumerate(subjects) for _ in subject.pairs]
    directions = torch.stack([subjects[owner[i]].direction for i in chosen])
    index = torch.tensor(chosen)
    before = base[one.starts_from][index]
    other = base["prefixed" if one.starts_from == "bare" else "bare"][index]
    change = _changes(before, after)
    rho_before, rho_after, rho_other = (
        (keys * directions).sum(-1) for keys in (before, after, other)
    )
    moved = float((change > NO_EFFECT.value).double().mean())
    if one.hypothesis == "null":
        if float((rho_after - rho_before).abs().max()) > NO_EFFECT.value:
            raise UserError(f"{one.name!r} must change nothing on {model.name}, but it does")
    elif moved == 0.0:
        raise UserError(
            f"{model.name} silently ignores the intervention {one.name!r} ({one.meaning}): no "
            "key of any subject changed"
        )
    groups: dict[int, list[int]] = {}
    for row, i in enumerate(chosen):
        groups.setdefault(owner[i], []).append(row)

    def over(values: Tensor) -> Estimate | None:
        return estimate_mean([float(values[rows].mean()) for rows in groups.values()], seed=seed)

    gap = float((rho_other - rho_before).mean())
    return Effect(
        name=one.name,
        hypothesis=one.hypothesis,
        meaning=one.meaning,
        starts_from=one.starts_from,
        reason=None,
        n=len(groups),
        rho_before=over(rho_before),
        rho_after=over(rho_after),
        delta=over(rho_after - rho_before),
        recovered=float((rho_after - rho_before).mean()) / gap if gap else None,
        key_change=float(change.mean()),
        changed=moved,
    )


def _attention(model: LoadedModel, pairs: Sequence[TokenPair], layer: int) -> list[Patch]:
    """Every attention output of the prefixed runs, to be written into others."""
    places: list[Place] = [(block, "attention") for block in range(layer + 1)]
    recorded = record(model, [pair.prefixed_run() for pair in pairs], layer, places)
    return [Patch(place, recorded[place]) for place in places]


def _changes(before: Tensor, after: Tensor) -> Tensor:
    """How far each key moved, over its length."""
    return (after - before).norm(dim=-1) / before.norm(dim=-1).clamp(min=1e-12)


def _moved(run: Reading, to: int) -> Reading:
    """The run with its tail at another position."""
    positions = list(range(len(run.ids)))
    positions[run.start : run.read + 1] = range(to, to + run.tail)
    return replace(run, positions=positions)


def _non_causal(pair: TokenPair) -> Reading | None:
    """The bare run whose subject attends to the text after it; ``None`` if there is none."""
    if not pair.after:
        return None
    run = pair.bare_run()
    ids = [*run.ids, *pair.after]
    sees = causal(len(ids))
    sees[run.start : run.read + 1] = True
    return Reading(ids, run.read, run.tail, None, sees)


def _alone(run: Reading) -> Reading:
    """The run whose tail attends to nothing but itself."""
    sees = causal(len(run.ids))
    sees[run.start :, : run.start] = False
    return replace(run, sees=sees)


def _without_sink(run: Reading) -> Reading:
    """The run in which no later token attends to the first one."""
    sees = causal(len(run.ids))
    sees[1:, 0] = False
    return replace(run, sees=sees)


def _preceded_by(token: int | None) -> Callable[[TokenPair], Reading | None]:
    """Runs with one token before the bare prompt; ``None`` where it is there already."""

    def make(pair: TokenPair) -> Reading | None:
        if token is None or pair.head == [token]:
            return None
        ids = [*pair.head, int(token), *pair.bare]
        return Reading(ids, len(ids) - 1, len(pair.bare))

    return make
