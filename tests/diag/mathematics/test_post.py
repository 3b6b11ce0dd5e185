"""What holds an update down: RECT and PRUNE, by their definitions and at their ends."""

from __future__ import annotations

import pytest
import torch

from diag.mathematics.post import POST, PRUNE_BASE, RECT_SHARE, prune, rect


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    change, weight = (
        torch.randn(12, 8, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    return change, weight


def test_rect_keeps_the_largest_relative_changes(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    change, weight = drawn
    kept = rect(change, weight)
    relative = (change / weight).abs()
    inside = kept != 0
    assert int(inside.sum()) == round(RECT_SHARE * change.numel())
    assert torch.equal(kept[inside], change[inside])
    assert relative[inside].min() >= relative[~inside].max()
    weight[3, 4] = 0.0  # any change of a zero is an infinite relative change
    assert rect(change, weight)[3, 4] == change[3, 4]


def test_prune_condenses_only_what_exceeds_the_weights(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    change, weight = drawn
    largest = float(torch.linalg.matrix_norm(weight, 2))
    small = change * (0.99 * largest / float(torch.linalg.matrix_norm(change, 2)))
    torch.testing.assert_close(prune(small, weight), small, rtol=0, atol=1e-12)
    big = change * (3.0 * largest / float(torch.linalg.matrix_norm(change, 2)))
    values, pruned = (torch.linalg.svdvals(matrix) for matrix in (big, prune(big, weight)))
    for value, left in zip(values.tolist(), pruned.tolist(), strict=True):
        logarithm = torch.log(torch.tensor(value / largest, dtype=torch.float64))
        expected = float(logarithm / torch.log(torch.tensor(PRUNE_BASE)).double()) + largest
        assert left == pytest.approx(expected if value > largest else value, rel=1e-6)
    assert float(values[0]) > largest > 0  # the control: there was something to condense


def test_every_rule_that_is_named_exists() -> None:
    from rome_diagnosis import methods

    assert set(POST) == set(methods.POST)
