"""Second moments of parts of a corpus, added up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from probes.second_moment import shrinkage
from probes.second_moment.moment import Background, Provenance, SecondMoment, of_moment
from rome_diagnosis.errors import UserError


def merge(parts: Sequence[SecondMoment]) -> SecondMoment:
    """Adds second moments of parts of a corpus up, each weighted by its tokens.

    Args:
        parts: Second moments of one model, layer and convention.

    Returns:
        The second moment of all parts. Samples are drawn from the parts in proportion, typical
        residual norms are weighted means, and the rule for the ridge is the parts' if they share
        one, else ``auto``.

    Raises:
        UserError: If the parts do not belong together, or one is given twice.
    """
    if len(parts) < 2:
        raise UserError("merging takes two second moments or more")
    origins = [_origin(part) for part in parts]
    _check_together(parts, origins)
    first, n_tokens = origins[0], sum(origin.n_tokens for origin in origins)
    shares = [origin.n_tokens / n_tokens for origin in origins]
    total = torch.zeros(parts[0].d_mlp, parts[0].d_mlp, dtype=torch.float64)
    for part, origin in zip(parts, origins, strict=True):
        assert part.moment is not None
        total += part.moment * origin.n_tokens
    row_lengths = {origin.row_length for origin in origins}
    digest = hashlib.sha256("".join(origin.corpus_digest for origin in origins).encode())
    moment = of_moment(
        total / n_tokens,
        source="merged",
        provenance=replace(
            first,
            corpus=" + ".join(origin.corpus for origin in origins),
            corpus_digest=digest.hexdigest(),
            n_tokens=n_tokens,
            row_length=row_lengths.pop() if len(row_lengths) == 1 else None,
            position0_share=_mean([origin.position0_share for origin in origins], shares),
        ),
        background=_pool([part.background for part in parts if part.background], shares),
        fourth=_mean([part.fourth for part in parts], shares),
    )
    rules = {part.ridge_rule for part in parts}
    return shrinkage.ridged(moment, rules.pop() if len(rules) == 1 else "auto")


def _origin(part: SecondMoment) -> Provenance:
    if part.provenance is None or part.moment is None or part.background is None:
        raise UserError("the identity cannot be merged with anything")
    return part.provenance


def _check_together(parts: Sequence[SecondMoment], origins: Sequence[Provenance]) -> None:
    """Refuses parts of different models or conventions, and equal ones."""
    seen: dict[str, str] = {}
    for part, origin in zip(parts, origins, strict=True):
        for what in ("fingerprint", "layer", "bos", "dtype"):
            if getattr(origin, what) != getattr(origins[0], what):
                raise UserError(
                    f"{part.source} was measured for another {what} than {parts[0].source}: "
                    f"{getattr(origin, what)}, not {getattr(origins[0], what)}"
                )
        if origin.corpus_digest in seen:
            raise UserError(f"{part.source} and {seen[origin.corpus_digest]} are of the same text")
        seen[origin.corpus_digest] = part.source


def _mean(values: Sequence[float | None], shares: Sequence[float]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(value * share for value, share in zip(known, shares, strict=True))


def _pool(parts: Sequence[Background], shares: Sequence[float]) -> Background:
    """Samples of all parts in proportion, and weighted means of the norms."""
    pooled: dict[str, Any] = {}
    for name in parts[0].samples:
        samples = [part.samples.get(name) for part in parts]
        if all(sample is not None for sample in samples):
            pooled[name] = _drawn([sample for sample in samples if sample is not None], shares)
    norms = {
        name: sum(getattr(part, name) * share for part, share in zip(parts, shares, strict=True))
        for name in ("residual_norm", "residual_norm_before")
    }
    return Background(**pooled, **norms)


def _drawn(samples: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Rows of each sample, in proportion to its part's share."""
    # The part that is scarcest in proportion says how many the others may give.
    size = min(
        [len(sample) / share for sample, share in zip(samples, shares, strict=True)]
        + [max(len(sample) for sample in samples)]
    )
    taken = []
    for sample, share in zip(samples, shares, strict=True):
        n = min(len(sample), max(1, round(size * share)))
        # Evenly over the sample, whichever order it is in.
        taken.append(sample[torch.linspace(0, len(sample) - 1, n).round().long()])
    return torch.cat(taken)
