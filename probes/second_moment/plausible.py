"""What every second moment satisfies, held against the keys that were sampled beside it.

A matrix can be symmetric and positive and still not be the second moment of the keys it claims to
describe: wrong units, another layer, statistics divided by the wrong count. Its sampled keys tell.
Keys are heavy-tailed (a unit may fire on one token in ten thousand, and one token may carry most
of the trace), so each check is an inequality that holds for every distribution, up to the error of
a sample, or has a limit with room for tails.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from probes import bundled
from probes.forward import activations
from probes.forward.batches import batches, to_float64
from probes.model.loaded import LoadedModel
from probes.second_moment.moment import ROWS, SecondMoment
from rome_diagnosis.limits import LARGEST_FIT, OTHER_CORPUS, SIGMAS, SMALLEST_FIT

# Texts, and tokens of each at most, that a C of another text is held against.
OTHER_TEXTS, OTHER_LENGTH = 20, 128
AT_ONCE = 512  # tokens, for a check that must not be what takes most memory
# Share of the longest sampled keys that are left out where a mean could be too large. What is left
# has a mean below the expectation, for any distribution, but for the sample's error.
TRIMMED = 0.01
# Tokens that a sampled key is compared with the sum of, if fewer were counted.
LEAST_COUNTED = 1000
# Tokens in a row where that is not known; more makes a limit wider.
LARGEST_ROW = 2**20


def complaints(moment: SecondMoment, *, foreign: bool = False) -> Iterator[str]:
    """Says what cannot be true of a second moment and the sampled keys beside it.

    Args:
        moment: The second moment, with background.
        foreign: Whether C was measured on another corpus than the sampled keys.

    Yields:
        Complaints, each the rest of a sentence.
    """
    if moment.fourth is not None:
        yield from _of_fourth(moment)
    yield from _of_trace(moment, foreign=foreign)
    yield from _of_metric(moment, foreign=foreign)
    yield from _of_norms(moment)


def fit(moment: SecondMoment) -> float:
    """Mean square of later keys in the C⁻¹ metric over its expectation d_mlp.

    The longest keys are left out: a few rare ones may carry most of the mean.

    Args:
        moment: The second moment, with background.

    Returns:
        At most about 1 where C is these keys' own, and less the heavier their tails are.
    """
    squares = _squares(moment, _keys(moment)[1])
    return float(_trimmed(squares).mean()) / moment.d_mlp


def with_other_text(moment: SecondMoment, model: LoadedModel, layer: int) -> SecondMoment:
    """The same second moment, held against keys of text that it was not measured on.

    A text that uses few directions, such as one sentence repeated, gives a C along whose other
    directions C⁻¹ is too large: edits look harmless that change every other text.

    Args:
        moment: Of this model's keys at this layer.
        model: The model.
        layer: The block.

    Returns:
        It, with :attr:`~probes.second_moment.moment.SecondMoment.other_text`.
    """
    longest = min(OTHER_LENGTH, model.n_ctx)
    rows = [model.tokens(text).ids[:longest] for text in bundled.texts()[:OTHER_TEXTS]]
    read = activations.reader(model, [layer])
    squares = []
    for batch in batches(rows, model, batch_tokens=AT_ONCE):
        later = batch.mask.bool()
        later[:, 0] = False
        keys = read(batch)[layer]["key"][later]
        squares += [_squares(moment, to_float64(some)) for some in keys.split(ROWS)]
    mean = float(_trimmed(torch.cat(squares)).mean()) / moment.d_mlp
    held = replace(moment, other_text=mean)
    held.__dict__["factor"] = moment.factor  # which takes d_mlp³ operations, and is the same
    return held


def _of_trace(moment: SecondMoment, *, foreign: bool) -> Iterator[str]:
    """The trace is the expectation of keys' squares."""
    assert moment.moment is not None
    trace = float(moment.moment.trace())
    first, later = (keys.norm(dim=1).square() for keys in _keys(moment))
    typical, mean = float(_trimmed(later).mean()), _mean(moment, first, later)
    room = OTHER_CORPUS.value if foreign else LARGEST_FIT.value
    # One key's square is at most the sum of all; half of the first tokens have at most all of it.
    longest = max(float(first.max()), float(later.max())) / _tokens(moment)
    halved = _share(moment) * float(first.median()) / 2
    too_small = max(typical, longest, halved) > trace * room
    too_large = False
    if moment.fourth is not None and not foreign:
        # A mean of non-negative numbers falls this far below its expectation in one of e^18
        # samples, however heavy their tail is (Maurer 2003).
        too_large = mean < trace - SIGMAS.value * math.sqrt(moment.fourth / len(later))
    if too_small or too_large:
        yield f"its trace is {trace:.3g}, but the mean square of sampled keys is {mean:.3g}"


def _of_metric(moment: SecondMoment, *, foreign: bool) -> Iterator[str]:
    """The expectation of keys' squares in the C⁻¹ metric is d_mlp, and less with a ridge."""
    room = OTHER_CORPUS.value if foreign else 1.0
    first, later = (_squares(moment, keys) for keys in _keys(moment))
    typical = float(_trimmed(later).mean()) / moment.d_mlp
    mean = _mean(moment, first, later) / moment.d_mlp
    too_long = not typical <= LARGEST_FIT.value * room
    # Half of the first tokens would have more than all of the expectation. The median, because
    # those that are sampled beyond the corpus' rows may point where C has nothing.
    largest = 2 * moment.d_mlp * room / max(_share(moment), 1 / LARGEST_ROW)
    if moment.ridge == 0.0 and not float(first.median()) <= largest:
        yield f"first tokens' keys have a median square of {float(first.median()):.3g} in it"
    if too_long or (moment.ridge == 0.0 and mean < SMALLEST_FIT.value / room):
        yield (
            f"the mean square of sampled keys in its metric is {typical if too_long else mean:.3g} "
            "times what it would be in their own"
        )


def _of_fourth(moment: SecondMoment) -> Iterator[str]:
    """Jensen's inequality, and that no key is longer than the sum of all."""
    assert moment.moment is not None and moment.fourth is not None
    assert moment.provenance is not None
    square = float(moment.moment.trace()) ** 2
    if not square * (1 - 1e-6) <= moment.fourth <= square * moment.provenance.n_tokens * (1 + 1e-6):
        yield f"its mean fourth power {moment.fourth:.3g} is impossible beside its trace"


def _of_norms(moment: SecondMoment) -> Iterator[str]:
    """Medians of the stream's norms, between the ranks that a sample's median may have."""
    assert moment.background is not None
    background = moment.background
    for i, name in enumerate(("residual_norm_before", "residual_norm")):
        value = getattr(background, name)
        if not 0.0 < value < math.inf:
            yield f"its {name} is {value}"
        elif background.later_norms is not None:
            norms = background.later_norms[:, i].to(torch.float64)
            below, above = (norms < value * (1 - 1e-5)), (norms > value * (1 + 1e-5))
            most = 0.5 + SIGMAS.value * 0.5 / math.sqrt(len(norms))
            if max(float(below.double().mean()), float(above.double().mean())) > most:
                yield (
                    f"its {name} is {value:.3g}, but the norms at sampled tokens have median "
                    f"{float(norms.median()):.3g}"
                )


def _keys(moment: SecondMoment) -> tuple[Float[Tensor, "m d_mlp"], Float[Tensor, "m2 d_mlp"]]:
    """Sampled keys of first and of later tokens."""
    assert moment.background is not None
    first, later = moment.background.first_keys, moment.background.later_keys
    return first.to(torch.float64), later.to(torch.float64)


def _squares(moment: SecondMoment, keys: Float[Tensor, "m d_mlp"]) -> Float[Tensor, " m"]:
    """Squares of keys in the C⁻¹ metric, a few keys at a time."""
    return torch.cat([moment.whiten(some).square().sum(1) for some in keys.split(ROWS)])


def _mean(moment: SecondMoment, first: Float[Tensor, " m"], later: Float[Tensor, " m2"]) -> float:
    """The mean over all tokens, of which first tokens are a known share."""
    share = _share(moment)
    return share * float(first.mean()) + (1 - share) * float(later.mean())


def _tokens(moment: SecondMoment) -> int:
    assert moment.provenance is not None
    # First tokens that are sampled beyond the rows were not counted.
    return max(moment.provenance.n_tokens, LEAST_COUNTED)


def _share(moment: SecondMoment) -> float:
    assert moment.provenance is not None
    return moment.provenance.position0_share or 0.0


def _trimmed(values: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
    """All but the largest."""
    return values.sort().values[: max(1, len(values) - math.ceil(TRIMMED * len(values)))]
