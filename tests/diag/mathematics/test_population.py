"""Places of keys among ordinary keys, recomputed in numpy, and what is equal by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diag.mathematics import population
from probes.second_moment.moment import SecondMoment, of_moment


@pytest.fixture
def setting() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, SecondMoment]:
    generator = torch.Generator().manual_seed(0)
    later = torch.randn(60, 8, generator=generator).double()
    first = 0.1 * torch.randn(30, 8, generator=generator).double() + torch.arange(8.0).double()
    keys = torch.cat([later, first])
    return first, later, torch.randn(8, generator=generator).double(), of_moment(
        keys.T @ keys / len(keys), source="test"
    )  # fmt: skip


def test_place_is_distance_and_rank_in_the_inverse_metric(setting) -> None:
    first, later, key, moment = setting
    inverse = np.linalg.inv(moment.moment.numpy())
    for keys in (first, later):
        rows, mean = keys.numpy(), keys.numpy().mean(0)

        def length(x: np.ndarray) -> float:
            return float(np.sqrt(x @ inverse @ x))

        members = [length(row - np.delete(rows, i, axis=0).mean(0)) for i, row in enumerate(rows)]
        found = population.place(moment.whiten(key), moment.whiten(keys))
        distance = length(key.numpy() - mean)
        assert found.distance == pytest.approx(distance)
        assert found.percentile == np.mean(np.array(members) < distance)
        assert found.typical_distance == pytest.approx(np.quantile(members, 0.5, method="lower"))
        expected = key.numpy() @ inverse @ mean / length(key.numpy()) / length(mean)
        assert found.cosine == pytest.approx(expected)
    with pytest.raises(ValueError, match="no spread"):
        population.place(key, first[:1])


def test_concentration_is_the_mean_inner_product_of_different_members(setting) -> None:
    first, later, _, moment = setting
    inverse = np.linalg.inv(moment.moment.numpy())
    for keys in (first, later):
        gram = keys.numpy() @ inverse @ keys.numpy().T
        pairs = gram[~np.eye(len(gram), dtype=bool)].mean()
        expected = pairs / np.diag(gram).mean()
        assert population.concentration(moment.whiten(keys)) == pytest.approx(expected)
    assert population.concentration(moment.whiten(first)) > 0.9
    assert abs(population.concentration(moment.whiten(later))) < 0.1
    assert population.concentration(moment.whiten(first[:1].expand(5, -1))) == pytest.approx(1)
    assert population.concentration(torch.zeros(4, 8, dtype=torch.float64)) == 1


def test_likeness_tells_first_tokens_from_later_ones(setting) -> None:
    first, later, _, moment = setting
    first, later = moment.whiten(first), moment.whiten(later)
    one = population.likeness(first[0], first[1:], later)
    other = population.likeness(later[0], first, later[1:])
    assert one.cosine > 0.9
    assert one.later_percentile == 1.0
    assert other.later_percentile < 1.0
    assert other.first_percentile == 0.0
    nothing = population.likeness(first[0], torch.zeros_like(first), later)
    assert nothing.cosine == 0.0
