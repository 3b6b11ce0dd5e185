"""Estimating a second moment: streamed equals direct, whatever the batches are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.request.lookup import Lookup
from probes.second_moment import corpus_pass, estimate
from probes.second_moment.moment import SecondMoment
from probes.second_moment.sums import add_gram
from probes.text import corpus
from probes.text.corpus import Corpus
from rome_diagnosis.errors import UserError
from tests import oracle


def test_rows_are_full_begin_with_a_document_and_carry_one_bos(
    tiny_model: Callable[[str], LoadedModel], text: Corpus
) -> None:
    for name in ("gpt2", "llama"):
        model = tiny_model(name)
        rows = list(corpus.rows(model, text, length=32))
        starts = {tuple(model.tokens(document).ids[:3]) for document in text.documents}
        assert rows
        for row in rows:
            assert len(row) == 32
            assert tuple(row[:3]) in starts
            assert row.count(model.tokenizer.bos_token_id) == int(model.bos)
        (short,) = corpus.rows(model, Corpus.of("short", ["Paris lies"]), length=32)
        assert short == model.tokens("Paris lies").ids


def test_streamed_moment_equals_one_text_at_a_time_with_plain_hooks(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel],
    tiny_dir: Callable[[str], Path], text: Corpus,
) -> None:  # fmt: skip
    from transformers import AutoModelForCausalLM

    model = tiny_model("gpt2")
    plain = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    keys: list[torch.Tensor] = []
    norms: list[torch.Tensor] = []
    handle = oracle.output_projection(plain, 1).register_forward_pre_hook(
        lambda module, inputs: keys.append(inputs[0][0].double())
    )
    for row in corpus.rows(model, text, length=32):
        with torch.no_grad():
            out = plain(torch.tensor([row]), output_hidden_states=True)
        norms.append(out.hidden_states[2][0, 1:].double().norm(dim=-1))
    handle.remove()
    every = torch.cat(keys)
    expected = every.T @ every / len(every)
    assert torch.allclose(estimated.moment, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))
    made = estimated.provenance
    assert made.n_tokens == len(every)
    assert made.position0_share == len(keys) / len(every)
    median = float(torch.cat(norms).median())
    assert estimated.background.residual_norm == pytest.approx(median, rel=1e-5)
    firsts = torch.stack([key[0] for key in keys]).float()
    for sampled in estimated.background.first_keys[:5]:
        assert float((firsts - sampled).abs().max(dim=-1).values.min()) < 1e-5


def test_first_keys_are_bounded_by_the_share_of_their_position(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel], text: Corpus
) -> None:
    # Were position 0's keys one vector with share p of the tokens, its square length in the C⁻¹
    # metric could not exceed 1/p; the mean over any population of that share cannot either.
    sums = corpus_pass.pass_over(corpus_pass.Pass(tiny_model("gpt2"), [1], text, 32))[1]
    white = estimated.whiten(sums.first.parts["keys"].double())
    mean = float(white.mean(0).square().sum())
    assert 0 < mean <= 1 / estimated.provenance.position0_share * (1 + 1e-9)


def test_few_rows_leave_first_tokens_of_many_documents(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel], text: Corpus
) -> None:
    model = tiny_model("gpt2")
    rows = list(corpus.rows(model, text, length=32))
    first = estimated.background.first_keys
    assert len(rows) < len(text.documents) == len(first) == len(estimated.background.first_norms)
    lookups = [Lookup("", model.tokens(text).ids[:1], 0, "") for text in text.documents]
    expected = capture(model, lookups, 1).keys
    nearest = torch.cdist(expected, first.double()).min(1).values
    assert float(nearest.max()) < 1e-4 * float(expected.norm(dim=1).min())


def test_batching_and_stopping_do_not_change_what_is_counted(
    tiny_model: Callable[[str], LoadedModel], text: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    whole = estimate.estimate(model, 1, text, row_length=32)
    monkeypatch.setattr(corpus_pass, "PIECE_TOKENS", 64)
    small = estimate.estimate(model, 1, text, row_length=32)
    assert torch.allclose(whole.moment, small.moment, rtol=1e-5, atol=1e-9)
    part = estimate.estimate(model, 1, text, row_length=32, max_tokens=100)
    assert part.provenance.n_tokens == 128  # the row that reaches the limit is counted whole
    seen: list[int] = []
    estimate.estimate(model, 1, text, row_length=32, progress=seen.append)
    assert sum(seen) == whole.provenance.n_tokens


@pytest.mark.parametrize("d", [1, 5, 8, 12, 130])
def test_a_gram_matrix_is_the_product(d: int) -> None:
    x = torch.randn(40, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
    sums = [torch.full((d, d), value, dtype=torch.float64) for value in (0.0, 7.0)]
    add_gram(sums, x)
    for value, each in zip((0.0, 7.0), sums, strict=True):
        assert torch.allclose(each, value + x.T @ x, rtol=1e-12, atol=1e-12)


def test_rows_of_one_token_leave_no_later_tokens_to_measure(
    tiny_model: Callable[[str], LoadedModel], text: Corpus
) -> None:
    with pytest.raises(UserError, match="second token"):
        estimate.estimate(tiny_model("gpt2"), 1, text, row_length=1)
