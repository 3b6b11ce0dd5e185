"""From an observation to a diagnosis: pure mathematics and judgement, no model and no files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from diag.judgement import findings, key_findings
from diag.judgement.findings import Finding
from diag.judgement.summary import paragraph
from diag.judgement.verdict import Grounds, Interval, Verdict, margin, steps, verdict_with
from diag.mathematics import damage, population, update
from diag.mathematics.damage import DamageBound, Optimiser
from diag.mathematics.intervals import ratio_interval
from diag.mathematics.plane import plane
from diag.mathematics.response import Response, responses
from diag.mathematics.stream import Stream
from diag.mathematics.update import Denominators
from probes.keys.observe import Observation
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from rome_diagnosis.editors import EDITORS, PUBLISHED
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class FirstTokens:
    """How the edit's unprefixed key and its contexts compare with ordinary tokens.

    Attributes:
        places: Where the key lies among ordinary first and later keys; ``None`` without a sample.
        likeness: How much it is like a first token's; ``None`` without a sample.
        concentration: How much ordinary first and later keys are one vector each; ``None`` without
            a sample.
        longest_later: The position after the first whose residual stream is longest, with its norm
            over the corpus median; ``None`` where there is none or nothing to compare with.
    """

    places: Mapping[str, population.Place | None]
    likeness: population.Likeness | None
    concentration: Mapping[str, float] | None
    longest_later: Mapping[str, Any] | None


@dataclass(frozen=True)
class Judgement:
    """What an observation means.

    Attributes:
        hyperparameters: How v* is optimised; the clamp on its δ bounds the damage.
        denominators: Denominator of every editor, and ρ.
        interval: Interval of ρ over draws of the contexts; ``None`` with too few.
        responses: Who else receives the edit, by editor.
        stream: The residual stream the damage is measured in.
        damage: Bounds of the damage, by editor.
        first_tokens: How the key compares with ordinary tokens.
        projection: Keys in the plane of k̄ and k_u.
        findings: What was checked.
        verdict: The verdict on ROME as published.
        verdicts: The verdict on each editor, by name.
        summary: Why, and what to do instead.
    """

    hyperparameters: Hyperparameters
    denominators: Denominators
    interval: Interval | None
    responses: Mapping[str, Response | None]
    stream: Stream
    damage: Mapping[str, DamageBound]
    first_tokens: FirstTokens
    projection: Mapping[str, Any]
    findings: tuple[Finding, ...]
    verdict: Verdict
    verdicts: Mapping[str, Verdict]
    summary: str


def judge(
    observation: Observation, moment: SecondMoment, *, hyperparameters: Hyperparameters, seed: int
) -> Judgement:
    """Judges one edit.

    Args:
        observation: What the model gives in each of its contexts.
        moment: Second moment of the edited layer's keys.
        hyperparameters: How v* is optimised, and so how long its δ gets.
        seed: Seed of the bootstrap over contexts.

    Returns:
        The judgement.

    Raises:
        UserError: If the keys are zero, or a number that decides is not a number.
    """
    keys, name = observation.keys, observation.model["name"]
    try:
        denominators = update.denominators(keys, moment)
    except ValueError as error:
        raise UserError(f"layer {observation.layer} of {name}: {error}") from error
    stream = Stream(moment, observation.contribution)
    interval = ratio_interval(keys, moment, seed=seed)
    answers = responses(keys, denominators, moment)
    optimiser = steps(hyperparameters, observation.values.shape[1])
    bounds = damage.bounds(observation.values, denominators, stream, optimiser)
    rho, short_by = denominators.split.ratio, margin(moment, observation.common)
    grounds = {name: grounds_of(bound, rho, short_by) for name, bound in bounds.items()}
    _check(observation, grounds, interval)
    first_tokens = _first_tokens(observation, moment)
    checked = (
        *_of_editors(denominators, stream, grounds, answers),
        *_of_the_edit(observation, denominators, grounds[PUBLISHED], interval, optimiser),
        *_of_first_tokens(first_tokens),
        _of_moment(moment),
    )
    verdicts = {name: verdict_with(EDITORS[name], of, interval) for name, of in grounds.items()}
    outcome = verdicts[PUBLISHED]
    return Judgement(
        hyperparameters=hyperparameters,
        denominators=denominators,
        interval=interval,
        responses=answers,
        stream=stream,
        damage=bounds,
        first_tokens=first_tokens,
        projection=plane(keys, moment),
        findings=checked,
        verdict=outcome,
        verdicts=verdicts,
        summary=paragraph(
            outcome,
            checked,
            grounds,
            interval=interval,
            bare={name: answer.bare if answer else None for name, answer in answers.items()},
            is_first_token=observation.lookups[0].is_first_token,
        ),
    )


def grounds_of(bound: DamageBound, rho: float, short_by: float) -> Grounds:
    """What a verdict on one editor rests on.

    Args:
        bound: The damage it would do.
        rho: ρ of the edit.
        short_by: How many times larger damage may be; see :func:`diag.judgement.verdict.margin`.

    Returns:
        The grounds.
    """
    return Grounds(
        rho,
        bound.relative_bound,
        bound.relative_bound_first_tokens,
        short_by,
        bound.expected_share,
    )


def _check(
    observation: Observation, grounds: Mapping[str, Grounds], interval: Interval | None
) -> None:
    """Refuses a verdict that would rest on NaN; infinite damage is a fact, not a mistake."""
    deciding = [value for each in grounds.values() for value in asdict(each).values()]
    deciding += interval or ()
    if any(value is not None and math.isnan(value) for value in deciding):
        raise UserError(
            f"the diagnosis of {observation.model['name']} in {observation.model['dtype']} gives "
            "numbers that are not numbers: use float32, or another second moment"
        )


def _of_editors(
    denominators: Denominators,
    stream: Stream,
    grounds: Mapping[str, Grounds],
    answers: Mapping[str, Response | None],
) -> list[Finding]:
    """What each editor would do, and who would receive it."""
    result: list[Finding] = []
    for name, editor in EDITORS.items():
        why_not = stream.why_not
        if why_not is None and denominators.raw[name] == 0.0:
            why_not = "the denominator is exactly zero, so the update has no size"
        answer = answers[name]
        result.append(findings.damage(editor, grounds[name], why_not))
        result.append(
            findings.first_tokens(
                editor,
                grounds[name],
                answer.other_first_tokens if answer else None,
                why_not or "no sample of first-token keys comes with this second moment",
            )
        )
        result.append(
            findings.response(
                editor, answer.bare if answer else None, answer.prefixed if answer else None
            )
        )
    return result


def _of_targets(values: Float[Tensor, "n_ctx d_model"], optimiser: Optimiser) -> list[Finding]:
    """Whether editors that subtract another value than v_u write what was optimised."""
    results = []
    for editor in EDITORS.values():
        if editor.subtract != "bare":
            distance = damage.apart(editor, values)
            delta = damage.residuals(editor, values, optimiser)[1] - distance
            results.append(findings.target(editor, distance, delta))
    return results


def _of_the_edit(
    observation: Observation,
    denominators: Denominators,
    published: Grounds,
    interval: Interval | None,
    optimiser: Optimiser,
) -> list[Finding]:
    bare, *prefixed = observation.lookups
    split = denominators.split
    return [
        key_findings.ratio(split.ratio, split.length_ratio, split.cosine, published.expected),
        key_findings.contexts(published, interval),
        key_findings.first_token(bare.token, bare.index),
        key_findings.token_form(bare.token, [at.token for at in prefixed]),
        key_findings.common_token(observation.common),
        key_findings.asked_with(observation.common),
        *_of_targets(observation.values, optimiser),
    ]


def _of_first_tokens(compared: FirstTokens) -> list[Finding]:
    alike, sink = compared.likeness, compared.longest_later
    return [
        key_findings.first_token_key(
            alike.cosine if alike else None, alike.later_percentile if alike else None
        ),
        key_findings.other_sink(
            sink["residual_norm_ratio"] if sink else None,
            sink["token"] if sink else None,
            sink["index"] if sink else None,
        ),
    ]


def _of_moment(moment: SecondMoment) -> Finding:
    return key_findings.second_moment(
        moment.source,
        moment.provenance.n_tokens if moment.provenance else None,
        moment.d_mlp,
        moment.ridge,
        moment.condition_number,
        is_foreign=moment.is_foreign,
        other_text=moment.other_text,
    )


def _first_tokens(observation: Observation, moment: SecondMoment) -> FirstTokens:
    key, background = moment.whiten(observation.keys[0]), moment.background
    samples = {name: moment.white_samples.get(f"{name}_keys") for name in ("first", "later")}
    enough = {
        name: sample for name, sample in samples.items() if sample is not None and len(sample) > 1
    }
    both = len(enough) == len(samples)
    return FirstTokens(
        places={
            name: population.place(key, enough[name]) if name in enough else None
            for name in samples
        },
        likeness=(population.likeness(key, enough["first"], enough["later"]) if both else None),
        concentration=(
            {name: population.concentration(sample) for name, sample in enough.items()}
            if both
            else None
        ),
        longest_later=_longest_later(
            observation, background.residual_norm_before if background else None
        ),
    )


def _longest_later(observation: Observation, typical: float | None) -> dict[str, Any] | None:
    """The position after the first with the longest residual stream, over the corpus median."""
    later = [position for position in observation.profile.positions if position.index > 0]
    if not later or not typical:
        return None
    longest = max(later, key=lambda position: position.residual_norm)
    return asdict(longest) | {"residual_norm_ratio": longest.residual_norm / typical}
