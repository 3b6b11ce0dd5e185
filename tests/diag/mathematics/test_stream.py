"""What an edit changes in the residual stream, against edits that are really made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from diag.mathematics.response import share
from diag.mathematics.stream import Stream, mean_square, steepest
from probes.forward import activations
from probes.forward.batches import batches
from probes.model.contribution import Contribution, contribution
from probes.model.loaded import LoadedModel
from probes.second_moment.estimate import estimate
from probes.second_moment.moment import SecondMoment
from probes.text import corpus
from tests import tiny
from tests.diag.mathematics.drawn import D_MLP, D_MODEL, corpus_moment, draw, stream

ROW = 16
TEXT = tiny.TRAINING_TEXT[:8]  # fewer tokens than the samples beside C hold: they hold all


class Gain(torch.nn.Module):
    """A norm as Gemma's: root mean square 1, then a gain for each coordinate."""

    def __init__(self, gain: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x / x.square().mean(-1, keepdim=True).sqrt()


def streams_after(model: LoadedModel, layer: int, rows: list[list[int]]) -> torch.Tensor:
    """The residual stream after the block at every token."""
    read = activations.reader(model, [layer])
    (batch,) = batches(rows, model)
    return read(batch)[layer]["resid_post"][batch.mask.bool()].double()


@pytest.mark.parametrize("name", [*tiny.ARCHITECTURES])
def test_a_performed_edit_moves_the_corpus_as_predicted(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model, layer = tiny_model(name), 2
    text = corpus.Corpus.of("test", TEXT)
    moment = estimate(model, layer, text, row_length=ROW)
    assert moment.background is not None and moment.provenance is not None
    rows = list(corpus.rows(model, text, length=ROW))
    assert len(moment.background.later_keys) == moment.provenance.n_tokens - len(rows)
    way = contribution(model, layer)
    predicted = Stream(moment, way)
    assert predicted.why_not is None
    assert predicted.how == ("closed form" if way.norm is None else "sampled")

    generator = torch.Generator().manual_seed(1)
    weight = model.output_weight(layer)
    u = draw(generator, weight.shape[0])
    wanted = draw(generator, weight.shape[1])
    denominator = float((moment.background.later_keys.double() @ u).abs().max()) / 5
    # Without a begin-of-sequence token those of documents are sampled: they attend to nothing.
    texts = rows if model.bos else [model.tokens(document).ids for document in TEXT]
    starts = [ids[:1] for ids in texts]
    kept = weight.detach().clone()
    before = [streams_after(model, layer, batch) for batch in (rows, starts)]
    try:
        with torch.no_grad():
            weight.add_(torch.outer(u, wanted / denominator).to(weight))
        after = [streams_after(model, layer, batch) for batch in (rows, starts)]
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert torch.equal(streams_after(model, layer, rows), before[0])
    rms, at_first = (
        float((new - old).square().sum(-1).mean().sqrt()) / predicted.unit
        for old, new in zip(before, after, strict=True)
    )
    found = predicted.change(u, denominator, wanted)
    assert found is not None
    assert found.corpus == pytest.approx(rms, rel=2e-4)
    assert found.first_tokens == pytest.approx(at_first, rel=2e-4, abs=1e-9)
    assert found.corpus > 0.01
    # Known by its length alone, the change is bounded; where it only is scaled, exactly.
    bound = predicted.change(u, denominator, float(wanted.norm()))
    assert bound is not None
    if way.norm is None:
        assert bound.corpus == pytest.approx(found.corpus, rel=1e-9)
    else:
        assert bound.corpus >= found.corpus


def test_a_factor_scales_the_change(generator) -> None:
    _, moment = corpus_moment(generator)
    plain = stream(moment)
    scaled = replace(plain, contribution=replace(plain.contribution, factor=-0.22))
    u = draw(generator, D_MLP)
    one, other = plain.change(u, 3.0, 2.0), scaled.change(u, 3.0, 2.0)
    assert other.corpus == pytest.approx(0.22 * one.corpus, rel=1e-12)
    assert other.first_tokens == pytest.approx(0.22 * one.first_tokens, rel=1e-12)


def test_many_changes_at_once_are_the_single_ones(generator) -> None:
    _, moment = corpus_moment(generator)
    gain = Gain(draw(generator, D_MODEL).exp())
    us = draw(generator, 3, D_MLP)
    denominators, lengths = torch.tensor([1.5, -0.2, 4.0]), torch.tensor([1.0, 2.0, 0.3])
    spread = ((us @ moment.moment) * us).sum(1).sqrt()
    moved = lengths * spread / denominators.abs()
    for at in (stream(moment), stream(moment, norm=gain)):
        both = at.changes(us, denominators.double(), lengths.double(), moved.double())
        for i in range(3):
            one = at.change(us[i], float(denominators[i]), float(lengths[i]))
            assert both[:, i].tolist() == pytest.approx([one.corpus, one.first_tokens], rel=1e-6)


def test_through_a_norm_that_changes_nothing_it_is_the_sample_s_closed_form(generator) -> None:
    _, moment = corpus_moment(generator)
    at = stream(moment, norm=torch.nn.Identity())
    assert at.how == "sampled"
    u = draw(generator, D_MLP)
    found = at.change(u, 3.0, 2.0)
    background = at.moment.background
    for keys, value in (
        (background.first_keys, found.first_tokens),
        (background.later_keys, found.corpus),  # no share of first tokens is known here
    ):
        expected = 2.0 * float(share(keys.double(), u, 3.0).square().mean().sqrt()) / 2.0
        assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [0.05, 1.0, 20.0])
def test_no_direction_changes_more_than_the_steepest(generator, size: float) -> None:
    _, moment = corpus_moment(generator)
    at = stream(moment, norm=Gain(draw(generator, D_MODEL).exp()))
    u = draw(generator, D_MLP)
    shares = share(at.moment.background.later_keys.double(), u, 1.0)
    length = size / float(shares.square().mean().sqrt())
    bound = at.change(u, 1.0, length)
    others = [
        at.change(u, 1.0, length * direction / direction.norm()).corpus
        for direction in draw(generator, 300, D_MODEL)
    ]
    assert max(others) <= bound.corpus * 1.001
    assert sum(others) / len(others) < 0.9 * bound.corpus  # directions do matter


def test_the_ascent_finds_the_top_singular_direction_of_a_linear_norm(generator) -> None:
    matrix = draw(generator, D_MODEL, D_MODEL)
    way = Contribution(
        factor=1.0, norm=torch.nn.Linear(D_MODEL, D_MODEL, bias=False, dtype=torch.float64),
        takes_stream=False, projection=torch.nn.Linear(D_MLP, D_MODEL, dtype=torch.float64),
    )  # fmt: skip
    with torch.no_grad():
        way.norm.weight.copy_(matrix)
    move = way.mover(draw(generator, 20, D_MLP), None)
    amounts = torch.ones(20, dtype=torch.float64)
    direction = steepest(move, amounts)
    with torch.no_grad():
        found = float(mean_square(move, amounts, direction))
    assert found == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2) ** 2), rel=0.02)


def test_what_cannot_be_checked_says_why(generator) -> None:
    _, moment = corpus_moment(generator)
    at, u = stream(moment), draw(generator, D_MLP)
    needs = Contribution(1.0, torch.nn.Identity(), True, at.contribution.projection)
    for other, reason in (
        (stream(SecondMoment.identity(D_MLP)), "identity"),
        (Stream(moment, at.contribution), "no residual norm"),
        (replace(at, contribution=replace(at.contribution, unknown="unheard of")), "unheard of"),
        (replace(at, contribution=needs), "estimate it again"),
    ):
        assert reason in other.why_not
        assert other.unit is None
        assert other.change(u, 1.0, 1.0) is None
        assert other.changes(u[None], torch.ones(1), torch.ones(1), torch.ones(1)) is None
    assert at.why_not is None
    assert at.change(u, 0.0, 1.0) is None  # a denominator of zero
