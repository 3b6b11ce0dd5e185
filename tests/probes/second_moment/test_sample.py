"""The sample of a stream is uniform, whatever pieces the stream comes in."""

from __future__ import annotations

import torch

from probes.second_moment.sample import Sample


def test_the_sample_is_uniform() -> None:
    counts = torch.zeros(20)
    for seed in range(400):
        sample = Sample(5, torch.Generator().manual_seed(seed), {"row": (1,)})
        for part in torch.arange(20.0).reshape(4, 5, 1):
            sample.add({"row": part})
        assert len(sample) == 5
        counts[sample.parts["row"][:, 0].long()] += 1
    # Each of 20 rows is kept with chance 1/4: 100 ± 4 standard deviations of a binomial.
    assert counts.min() > 65
    assert counts.max() < 135


def test_a_sample_keeps_the_smallest_lots_in_their_order() -> None:
    # Fed in uneven parts, of which only some rows count: what one sort of all lots would keep.
    rows = torch.arange(900.0)[:, None]
    sample = Sample(50, torch.Generator().manual_seed(3), {"row": (1,)})
    generator = torch.Generator().manual_seed(3)
    lots, counted = [], []
    for start in range(0, 900, 90):
        among = torch.arange(start, start + 90)[start % 4 :: 2]
        sample.add({"row": rows}, among)
        lots.append(torch.rand(len(among), dtype=torch.float64, generator=generator))
        counted.append(among)
    smallest = torch.cat(lots).argsort()[:50].sort().values
    assert torch.equal(sample.parts["row"][:, 0].long(), torch.cat(counted)[smallest])
    assert torch.equal(sample.lots, torch.cat(lots)[smallest])


def test_the_parts_of_a_token_stay_together() -> None:
    sample = Sample(7, torch.Generator().manual_seed(0), {"row": (2,), "double": ()})
    for rows in torch.arange(200.0).reshape(10, 10, 2):
        sample.add({"row": rows, "double": 2 * rows.sum(1)})
    assert torch.equal(sample.parts["double"], 2 * sample.parts["row"].sum(1))
    again = Sample(7, torch.Generator().manual_seed(1), {"row": (2,), "double": ()})
    again.restore(sample.state())
    assert len(again) == 7 and torch.equal(again.parts["row"], sample.parts["row"])
