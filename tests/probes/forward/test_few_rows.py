"""Linear maps of a few rows, the other way round."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import linear

from probes.forward import few_rows
from probes.forward.few_rows import FewRows
from probes.forward.unhooked import Unhooked
from probes.model.loaded import LoadedModel


@pytest.mark.parametrize("rows", [1, few_rows.FEWEST, few_rows.MOST, few_rows.MOST + 1])
@pytest.mark.parametrize("biased", [False, True])
def test_it_is_the_same_map(rows: int, biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    turned: list[int] = []
    monkeypatch.setattr(
        few_rows, "turned", lambda *given, real=few_rows.turned: (turned.append(1), real(*given))[1]
    )
    generator = torch.Generator().manual_seed(rows)
    x, weight = torch.randn(rows, 1, 48, generator=generator), torch.randn(64, 48)
    bias = torch.randn(64) if biased else None
    expected = linear(x.double(), weight.double(), bias if bias is None else bias.double())
    with FewRows():
        found = linear(x, weight, bias)
        assert linear(x.double(), weight.double()).dtype == torch.float64
        assert linear(x.requires_grad_(), weight).requires_grad
    assert found.shape == (rows, 1, 64) and found.is_contiguous()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert bool(turned) == (few_rows.FEWEST <= rows <= few_rows.MOST)


def test_a_decoder_gives_the_same_logits(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    rows = [[3, 1, 4, 1, 5], [2, 7, 1], [1, 6], [9, 8, 2], [5, 5], [7, 3, 8]]
    logits = []
    for most in (few_rows.MOST, 0):
        monkeypatch.setattr(few_rows, "MOST", most)
        decoder = Unhooked(model).decode(rows)
        steps = [decoder.logits()]
        decoder.append(steps[0].argmax(1, keepdim=True))
        logits.append([*steps, decoder.logits()])
    for turned, straight in zip(*logits, strict=True):
        torch.testing.assert_close(turned, straight, rtol=1e-5, atol=1e-5)
