"""A diagnosis as a document (schema ``diag.keys/1``): plain JSON values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from diag.keys.judge import Judgement
from probes.keys.observe import Observation
from probes.second_moment.moment import SecondMoment
from probes.statistics import cosine
from rome_diagnosis import envelope, limits

SCHEMA = "diag.keys/1"


def document(
    observation: Observation,
    judgement: Judgement,
    moment: SecondMoment,
    *,
    seed: int,
    sampled: bool,
) -> dict[str, Any]:
    """Writes a diagnosis down.

    Args:
        observation: What the model gives in each context.
        judgement: What that means.
        moment: The second moment it was judged by.
        seed: Seed of the sampled contexts and of the bootstrap over them.
        sampled: Whether the contexts were sampled with that seed.

    Returns:
        The document.
    """
    edit = observation.request
    computed_in = str(observation.model.get("autocast") or observation.model["dtype"])
    written = {
        **envelope.head(
            SCHEMA,
            _command(
                observation,
                moment,
                judgement.hyperparameters.clamp_norm_factor,
                seed=seed,
                sampled=sampled,
            ),
        ),
        "model": observation.model,
        "site": {"layer": observation.layer, "hook": observation.hook},
        "request": edit.describe(),
        "contexts": {
            "seed": seed if sampled else None,
            "sampled": sampled,
            "n": len(observation.prefixes),
        },
        "lookup": _lookup(observation),
        "second_moment": moment.describe(computed_in),
        "keys": _keys(observation, judgement),
        "denominators": _denominators(judgement),
        "damage": _damage(judgement),
        "response": {
            name: None if answer is None else asdict(answer)
            for name, answer in judgement.responses.items()
        },
        "first_token": _first_token(observation, judgement),
        "limits": limits.of_verdicts(),
        "validity": limits.validity(str(observation.model["architecture"])),
        "findings": [asdict(finding) for finding in judgement.findings],
        "verdict": judgement.verdict,
        "summary": judgement.summary,
    }
    # Through JSON and back, so that the document in memory is the one on disk to the last type.
    return envelope.plain(envelope.finite(written))


def _lookup(observation: Observation) -> dict[str, Any]:
    bare = observation.lookups[0]
    return {
        "unprefixed": {
            "token": bare.token,
            "index": bare.index,
            "is_first_token": bare.is_first_token,
            "tokens": observation.tokens,
        },
        "prefixed": [
            {"prefix": at.prefix, "token": at.token, "index": at.index}
            for at in observation.lookups
        ],
    }


def _keys(observation: Observation, judgement: Judgement) -> dict[str, Any]:
    bare, mean = observation.keys[0], observation.keys.mean(0)
    split = judgement.denominators.split
    return {
        "norm_unprefixed": float(bare.norm()),
        "norm_prefixed_mean": float(mean.norm()),
        "cosine": cosine(bare, mean),
        "whitened_norm_unprefixed": split.norm_unprefixed,
        "whitened_norm_prefixed_mean": split.norm_mean,
        "whitened_length_ratio": split.length_ratio,
        "whitened_cosine": split.cosine,
    }


def _denominators(judgement: Judgement) -> dict[str, Any]:
    denominators = judgement.denominators
    return {
        **denominators.raw,
        **{f"{name}_normalised": value for name, value in denominators.normalised.items()},
        "ratio": denominators.split.ratio,
        "ratio_without_bare": denominators.split.without_bare,
        "ratio_interval": judgement.interval,
    }


def _damage(judgement: Judgement) -> dict[str, Any]:
    stream = judgement.stream
    return {
        **{
            name: {**asdict(bound), "verdict": judgement.verdicts[name]}
            for name, bound in judgement.damage.items()
        },
        "clamp_norm_factor": judgement.hyperparameters.clamp_norm_factor,
        "residual_norm": stream.unit,
        "checked": None if stream.why_not else stream.how,
        "not_checked": stream.why_not,
        "contribution": stream.contribution.describe(),
    }


def _first_token(observation: Observation, judgement: Judgement) -> dict[str, Any]:
    compared = judgement.first_tokens
    return {
        "layers": [asdict(statistics) for statistics in observation.profile.layers],
        "population": {
            name: None if place is None else asdict(place)
            for name, place in compared.places.items()
        },
        "likeness": None if compared.likeness is None else asdict(compared.likeness),
        "concentration": compared.concentration,
        "longest_later_position": compared.longest_later,
        "projection": judgement.projection,
    }


def _command(
    observation: Observation, moment: SecondMoment, clamp: float, *, seed: int, sampled: bool
) -> str:
    """The command that measures the same again."""
    model: Mapping[str, Any] = observation.model
    edit = observation.request
    words = ["python", "-m", "diag.keys", "--model", model["name"]]
    words += ["--layer", str(observation.layer)]
    words += [f"--subject={edit.subject}", f"--prompt={edit.prompt}"]
    for option, target in (("new", edit.target_new), ("true", edit.target_true)):
        if target is not None:
            words.append(f"--target-{option}={target}")
    if sampled:
        words += ["--n-prefixes", str(len(observation.prefixes))]
    else:
        words += [f"--prefix={prefix}" for prefix in observation.prefixes]
    words += ["--seed", str(seed)]
    words.append("--bos" if model["bos_prepended"] else "--no-bos")
    if moment.source not in ("shipped", "estimated"):
        words += ["--second-moment", moment.source]
    words += ["--dtype", model["dtype"], "--clamp-norm-factor", f"{clamp:g}"]
    if "autocast" in model:
        words += ["--autocast", model["autocast"]]
    return shlex.join(words)
