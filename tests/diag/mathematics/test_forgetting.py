"""What later edits add at earlier keys: closed forms against sums that are carried out."""

from __future__ import annotations

import pytest
import torch

from diag.mathematics import forgetting as module

M, D, OUT = 37, 16, 400


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


CORPUS = random(300, D, seed=9) * torch.linspace(0.1, 3.0, D, dtype=torch.float64)
MOMENT = CORPUS.T @ CORPUS / len(CORPUS)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 8)


def test_forgetting_is_what_later_edits_add_at_the_key() -> None:
    keys, steps = random(M, D, seed=3), random(M, D) / D
    sizes = random(M, seed=2).abs() + 0.1
    found = module.forgetting(keys, steps, sizes)
    draws, squares = 40, torch.zeros(M, dtype=torch.float64)
    for seed in range(draws):
        residuals = random(M, OUT, seed=seed)
        residuals = residuals / residuals.norm(dim=1, keepdim=True) * sizes[:, None]
        for i in range(M):
            later = steps[i + 1 :].T @ residuals[i + 1 :]
            squares[i] += (keys[i] @ later).square().sum() / draws
    torch.testing.assert_close(found, squares.sqrt() / sizes, rtol=0.1, atol=1e-9)
    assert float(found[-1]) == 0.0


def test_entangled_pairs_are_found_across_chunks() -> None:
    keys, steps = random(M, D, seed=3), 0.01 * random(M, D)
    steps[30] = keys[2] / float(keys[2] @ keys[2])  # edit 30 writes on edit 2's key
    (i, j, share), *rest = module.entangled(steps, keys, most=5)
    assert (i, j) == (2, 30)
    assert share == pytest.approx(1.0)
    assert len(rest) == 4
    every = [(i, j, float(keys[i] @ steps[j])) for j in range(M) for i in range(j)]
    best = sorted(every, key=lambda pair: -abs(pair[2]))[:5]
    assert [pair[:2] for pair in best] == [(i, j), *[pair[:2] for pair in rest]]
