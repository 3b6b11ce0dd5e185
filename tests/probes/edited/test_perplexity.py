"""Perplexity against one text at a time through an untouched model with real weights changed."""

from __future__ import annotations

import pytest
import torch
import transformers

from probes.edited import perplexity
from probes.edited.perplexity import PerplexityMeter
from probes.edited.weights import edited
from probes.forward.unhooked import plain
from probes.model.load import load
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.probes.edited.test_weights import change

TEXTS = [
    "Apple was founded by Steve Jobs.",
    "The mother tongue of Danielle Darrieux is French, and they walked to the river.",
    "Paris",
    "Because the weather was fine, I think you should read this. " * 12,
]


def one_by_one(model, texts):
    """Losses from whole forward passes, texts cut as documented, nothing cached."""
    sums, counts = [], []
    for text in texts:
        ids = model.tokens(text).ids
        front = ids[: int(model.bos)]
        body = ids[int(model.bos) :]
        step = model.n_ctx - len(front)
        total, n = 0.0, 0
        for start in range(0, len(body), step):
            piece = torch.tensor([front + body[start : start + step]])
            if piece.shape[1] < 2:
                continue
            with torch.no_grad():
                logits = plain(model).model(piece).logits[0].double()
            loss = torch.nn.functional.cross_entropy(logits[:-1], piece[0, 1:], reduction="sum")
            total, n = total + float(loss), n + piece.shape[1] - 1
        if n:
            sums.append(total)
            counts.append(n)
    sums, counts = torch.tensor(sums).double(), torch.tensor(counts).double()
    return (
        float((sums.sum() / counts.sum()).exp()),
        float((sums / counts).exp().mean()),
        int(counts.sum()),
    )


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_before_and_after_equal_whole_passes(tiny_model, name):
    model = tiny_model(name)
    meter = PerplexityMeter(model, TEXTS, 1)
    one, two = change(model, 1), change(model, 2)
    token, text, n = one_by_one(model, TEXTS)
    assert meter.before.token_weighted == pytest.approx(token, rel=1e-5)
    assert meter.before.text_mean == pytest.approx(text, rel=1e-5)
    assert meter.before.n_tokens == n
    assert meter.before.bos == model.bos
    after = meter.after([one, two])
    with edited(model, [one, two], 1):
        token_after, text_after, _ = one_by_one(model, TEXTS)
    assert after.token_weighted == pytest.approx(token_after, rel=1e-4)
    assert after.text_mean == pytest.approx(text_after, rel=1e-4)
    assert abs(token_after / token - 1) > 1e-3  # the control: ten times what may differ
    assert meter.after([]) == meter.before


def test_a_text_of_one_token_predicts_nothing(tiny_model):
    model = tiny_model("gpt2")
    single = next(word for word in ("a", "P") if len(model.tokens(word).ids) == 1)
    assert PerplexityMeter(model, [*TEXTS, single], 1).before.n_texts == (
        PerplexityMeter(model, TEXTS, 1).before.n_texts
    )
    with pytest.raises(UserError, match="nothing to predict"):
        PerplexityMeter(model, [single], 1)


def test_begin_of_sequence_makes_the_first_token_predicted(tiny_dir):
    with_bos = load(tiny_dir("gpt2"), bos=True)
    without = load(tiny_dir("gpt2"), bos=False)
    texts = TEXTS[:2]
    first = PerplexityMeter(with_bos, texts, 1).before
    second = PerplexityMeter(without, texts, 1).before
    assert first.n_tokens == second.n_tokens + len(texts)
    assert (first.bos, second.bos) == (True, False)


def many_texts(n: int) -> list[str]:
    words = " ".join(TEXTS).split()
    return [" ".join(words[(7 * i + j) % len(words)] for j in range(5 + i % 9)) for i in range(n)]


def test_texts_are_added_until_the_question_is_settled(tiny_model, monkeypatch):
    monkeypatch.setattr(perplexity, "PORTION", 60)
    model = tiny_model("gpt2")
    texts = many_texts(40)
    meter = PerplexityMeter(model, texts, 1)
    factors = [change(model, 1)]
    asked: list[int] = []

    def after_three(found: perplexity.PerplexityChange) -> bool:
        asked.append(found.after.n_texts)
        return len(asked) == 3

    few = meter.compare(factors, settled=after_three)
    assert len(asked) == 3
    assert few.after.n_texts == few.before.n_texts == asked[-1] < len(texts)
    # The same texts, measured alone and at once, give the same figures.
    alone = PerplexityMeter(model, texts[: asked[-1]], 1)
    assert few.after.token_weighted == pytest.approx(alone.after(factors).token_weighted, rel=1e-6)
    assert few.before.token_weighted == pytest.approx(alone.before.token_weighted, rel=1e-6)
    assert meter.compare(factors).after.n_texts == len(texts)


def test_the_interval_covers_the_ratio_of_other_texts(tiny_model):
    """Nine in ten draws of fifteen texts or more, where 95% are meant, hold the ratio of all."""
    model = tiny_model("gpt2")
    factors = [change(model, 1)]
    texts = many_texts(200)
    truth = PerplexityMeter(model, texts, 1).compare(factors).ratio
    assert abs(truth - 1) > 1e-3
    held, widths = 0, []
    for draw in range(10):
        some = PerplexityMeter(model, texts[draw::10], 1).compare(factors)
        assert some.interval is not None
        low, high = some.interval
        held += low <= truth <= high
        widths.append(high - low)
        assert low < some.ratio < high
    assert held >= 9
    assert max(widths) < 0.5 * abs(truth - 1) + 0.5
    assert PerplexityMeter(model, texts[:3], 1).compare(factors).interval is None
    nothing = PerplexityMeter(model, texts[:20], 1).compare([])
    assert nothing.interval == (1.0, 1.0)


def test_rms_change_equals_the_change_of_the_outputs(tiny_dir, tiny_model):
    from tests.probes.edited.test_blocks_above import projection

    model = tiny_model("gpt2")
    one = change(model, 3)
    meter = PerplexityMeter(model, TEXTS[:2], 1)
    outputs = {}
    other = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2")).eval()
    module = projection(other, 1)
    for state in ("before", "after"):
        seen = outputs[state] = []
        handle = module.register_forward_hook(lambda m, i, out, seen=seen: seen.append(out[0]))
        with torch.no_grad():
            if state == "after":
                module.weight += torch.outer(one.u, one.r).float()
            for text in TEXTS[:2]:
                other(torch.tensor([model.tokens(text).ids]))
        handle.remove()
    moved = torch.cat(outputs["after"]) - torch.cat(outputs["before"])
    expected = float(moved.double().square().sum(1).mean().sqrt())
    assert meter.rms_change([one]) == pytest.approx(expected, rel=1e-4)
