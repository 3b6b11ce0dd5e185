"""Lists by any method: the rows known beforehand are those of the batches that are made."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from diag.mathematics import family, steps
from diag.mathematics.metrics import Geometry
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.methods import METHODS

M, D, OUT = 11, 16, 7
FITTING = {"weight": 20.0, "damping": 0.1, "ridge": 0.5, "threshold": 0.5, "l2": 2.0}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


CORPUS = random(300, D, seed=9) * torch.linspace(0.3, 2.0, D, dtype=torch.float64)
MOMENT = CORPUS.T @ CORPUS / len(CORPUS)
KEYS, BARE = random(M, D), random(M, D, seed=3)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "CHUNK", 4)


def geometry(name: str) -> Geometry:
    method = METHODS[name]
    own = {parameter: FITTING[parameter] for parameter in method.parameters}
    return Geometry(method, SecondMoment(MOMENT, D, "test"), own)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("batch", [1, 3, 20])
@pytest.mark.parametrize("name", METHODS)
def test_each_batch_is_the_one_that_is_made(name: str, batch: int) -> None:
    here = geometry(name)
    below = BARE if name == "rome" else KEYS
    found = steps.steps(here, KEYS, below, batch=batch)
    for at in steps.batches(M, batch):
        # Both contexts the same key: whatever a method combines is that key.
        both = torch.stack([BARE if name == "rome" else KEYS, KEYS], 1)[at]
        if name == "rome":
            both[:, 1] = 2 * KEYS[at] - BARE[at]  # their mean is the key
        made = here.update(both, random(len(both), OUT), KEYS[: at.start])
        assert relative(found[at], made.steps) < 1e-9
    if here.method.remembers and batch < M:  # the control: history matters
        alone = steps.steps(here, KEYS, below, batch=batch, remember=False)
        assert relative(alone[-1], found[-1]) > 1e-3
        torch.testing.assert_close(alone[:batch], found[:batch])


@pytest.mark.parametrize("batch", [1, 4])
def test_with_history_a_list_is_one_batch(batch: int) -> None:
    """At fixed keys and targets; the rows of a list meet residuals that shrink on the way."""
    here, wanted = geometry("memit_seq"), random(M, OUT, seed=1)
    whole = here.update(KEYS[:, None], wanted).change()

    def in_turn(rows: torch.Tensor) -> torch.Tensor:
        change = torch.zeros(D, OUT, dtype=torch.float64)
        for at in steps.batches(M, batch):
            change = change + rows[at].T @ (wanted[at] - KEYS[at] @ change)
        return change

    assert relative(in_turn(steps.steps(here, KEYS, KEYS, batch=batch)), whole) < 1e-8
    forgetful = steps.steps(here, KEYS, KEYS, batch=batch, remember=False)
    assert relative(in_turn(forgetful), whole) > 1e-3


def test_the_rows_make_the_change() -> None:
    made = geometry("emmet").update(KEYS[:, None], random(M, OUT))
    assert relative(made.steps.T @ made.residuals, made.change()) < 1e-9
    torch.testing.assert_close(made.response(BARE), BARE @ made.steps.T)


def test_what_cannot_be_solved_is_said() -> None:
    here = dataclasses.replace(geometry("emmet"), parameters={"weight": 1.0, "damping": 0.0})
    twice = torch.cat([KEYS[:1], 2 * KEYS[:1]])
    with pytest.raises(ZeroDivisionError, match="parallel"):
        steps.steps(here, twice, twice, batch=2)
    assert steps.steps(here, twice, twice, batch=1).isfinite().all()
    apart = twice - (family.inverse(MOMENT)(KEYS[:1]) @ KEYS[0])  # some other key
    assert steps.steps(geometry("rome"), KEYS[:2], 0 * apart).abs().max() > 1e50


def test_batches_cover_the_list() -> None:
    assert steps.batches(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert steps.batches(4, 9) == [slice(0, 4)]
