"""Rows in pieces: the same optimisation, and no more kept than is allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch

from probes.model.loaded import LoadedModel
from probes.target_value import pieces
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import TargetValue, optimise
from rome_diagnosis.methods import METHODS, TargetSite
from tests.probes.target_value.test_optimise import EDITS, LEADING, PREFIXES, SETTINGS

STOPS = dataclasses.replace(SETTINGS, evaluations=8, most_probable=2, stop_below=0)
FOLLOWS = dataclasses.replace(SETTINGS, leading_nll=0.5, leading_kl=1e-3)


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many rows may wait together, whatever a row takes, and lets nothing else count."""

    def allow(rows: int) -> None:
        monkeypatch.setattr("probes.target_value.optimise.most_rows", lambda *_: rows, raising=True)

    return allow


@pytest.mark.parametrize("engine", ["general", "auto"])
@pytest.mark.parametrize(
    ("edits", "chosen", "sites"),
    [
        (EDITS, SETTINGS, ("value",)),
        (LEADING, STOPS, ("resid_post",)),
        (EDITS, FOLLOWS, METHODS["pmet"].sites),
    ],
    ids=["v*", "z with a stop", "PMET"],
)
def test_pieces_change_nothing_but_rounding(
    tiny_model: Callable[[str], LoadedModel],
    allowed: Callable[[int], None],
    engine: str,
    edits: Sequence[object],
    chosen: Hyperparameters,
    sites: Sequence[TargetSite],
) -> None:
    model = tiny_model("gpt2").run_by(engine)

    def found() -> list[TargetValue]:
        return optimise(model, edits, PREFIXES, 1, chosen, sites=sites)

    allowed(10**6)
    whole = found()
    for rows in (1, 4, 7):  # of fifteen; pieces end within an edit, and at one
        allowed(rows)
        for one, other in zip(whole, found(), strict=True):
            assert one.steps == other.steps
            torch.testing.assert_close(other.delta, one.delta, atol=1e-5, rtol=1e-4)
            assert other.losses == pytest.approx(one.losses, rel=1e-4)
            assert other.probability == pytest.approx(one.probability, rel=1e-4)


def test_a_piece_has_no_more_rows_than_are_allowed(
    tiny_model: Callable[[str], LoadedModel],
    allowed: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from probes.target_value.reader import General

    waiting, most, read = 0, 0, []
    of_read, of_gradient = General.read, General.gradient

    def reads(self: General, change: torch.Tensor) -> object:
        nonlocal waiting, most
        read.append(len(change))
        waiting += len(change)
        most = max(most, waiting)
        return of_read(self, change)

    def goes_back(self: General, *weights: torch.Tensor) -> object:
        nonlocal waiting
        gradient = of_gradient(self, *weights)
        waiting -= len(gradient)
        return gradient

    monkeypatch.setattr(General, "read", reads)
    monkeypatch.setattr(General, "gradient", goes_back)
    allowed(4)
    optimise(tiny_model("llama"), EDITS, PREFIXES, 1, SETTINGS)
    assert most <= 4
    assert sum(read) == SETTINGS.evaluations * len(EDITS) * (len(PREFIXES) + 2)


def test_what_may_wait_goes_with_the_weights(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    of_row = 5 * 100 * 4
    assert pieces.most_rows(model, 5, 100) == pieces.ANYWAY["cpu"] // of_row
    monkeypatch.setattr(pieces, "ANYWAY", {"cpu": 0})
    assert pieces.most_rows(model, 5, 100) == int(model.weight_bytes / 16 / of_row)
    assert pieces.most_rows(model, 5, 10**9) == 1
