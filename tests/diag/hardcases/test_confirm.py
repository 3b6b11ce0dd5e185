"""Edits are performed until the share that breaks is known, and no further."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from diag.hardcases import confirm
from diag.hardcases.confirm import Wanted, perform_set, share
from probes.request.cases import EditCase
from rome_diagnosis.disk.journal import Journal
from rome_diagnosis.editors import ARMS
from rome_diagnosis.errors import UserError
from tests.diag.hardcases.made import edit


@dataclass
class Bench:
    """Stands for a verification: subjects in ``breaking`` break the model, ``refused`` fail."""

    breaking: frozenset[str]
    refused: frozenset[str] = frozenset()
    performed: list[str] = field(default_factory=list)

    def target_values(self, cases: Sequence[EditCase]) -> list[str]:
        subjects = [case.request.subject for case in cases]
        if self.refused & set(subjects):
            raise UserError("its denominator is exactly zero")
        return subjects

    def measure(self, case: EditCase, target: str) -> dict[str, Any]:
        assert target == case.request.subject
        self.performed.append(target)
        outcome = "collapsed" if target in self.breaking else "intact"
        arm = {"perplexity": {"ratio": 1.0}, "damage": {"relative": 1.0}}
        return {
            "arms": {name: arm | {"efficacy": {"success": True}} for name in ARMS},
            "optimisation": {"probability": 0.9},
            "outcome": dict.fromkeys(ARMS, outcome),
        }


@dataclass
class Run:
    """As much of a verification as performing needs."""

    bench: Bench


CASES = [edit(f"S{i}").case for i in range(200)]
ALL = frozenset(case.request.subject for case in CASES)


def performed(
    journal: Path, bench: Bench, wanted: Wanted, cases: Sequence[EditCase] = CASES
) -> dict[int, dict[str, Any]]:
    with Journal(journal, {}) as kept:
        return perform_set(Run(bench), cases, wanted, kept)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", [0.05, 0.1, 0.2])
def test_it_ends_once_the_share_is_known(precision: float, tmp_path: Path) -> None:
    half = frozenset(f"S{i}" for i in range(0, 200, 2))
    for breaking in (ALL, half):
        bench = Bench(breaking)
        done = performed(tmp_path / f"{len(breaking)}", bench, Wanted(precision, 200, 0))
        told = share(done.values())
        assert told is not None and told["n"] == len(bench.performed) == len(done)
        broken = told["outcomes"]["collapsed"]
        interval = binomtest(broken, told["n"]).proportion_ci(method="wilson")
        assert (told["low"], told["high"]) == pytest.approx((interval.low, interval.high))
        if told["n"] < 200:
            assert (interval.high - interval.low) / 2 <= precision
            # Without the last ones it was not known.
            before = list(done.values())[: -confirm.AT_ONCE]
            assert not confirm.known(before, precision)
        else:
            assert breaking == half and precision == 0.05


def test_those_performed_are_drawn_by_the_seed(tmp_path: Path) -> None:
    orders = []
    for i, seed in enumerate((0, 0, 1)):
        bench = Bench(ALL)
        performed(tmp_path / str(i), bench, Wanted(0, 16, seed))
        orders.append(bench.performed)
    assert orders[0] == orders[1] != orders[2]
    assert len(orders[0]) == 16


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    first = performed(tmp_path / "journal", Bench(ALL), Wanted(0, 16, 0))
    bench = Bench(ALL)
    second = performed(tmp_path / "journal", bench, Wanted(0, 24, 0))
    assert len(bench.performed) == 8
    assert {i: second[i] for i in first} == first


def test_an_edit_that_cannot_be_performed_is_an_error_and_counts_for_nothing(
    tmp_path: Path,
) -> None:
    bench = Bench(ALL, refused=frozenset({"S3"}))
    done = performed(tmp_path / "journal", bench, Wanted(0, 200, 0), CASES[:10])
    assert done[3] == {"error": "its denominator is exactly zero"}
    told = share(done.values())
    assert told is not None and told["n"] == 9


def test_nothing_performed_is_nothing_known(tmp_path: Path) -> None:
    assert performed(tmp_path / "none", Bench(ALL), Wanted(0.1, 0, 0)) == {}
    assert performed(tmp_path / "empty", Bench(ALL), Wanted(0.1, 9, 0), []) == {}
    assert share([]) is None
    assert not confirm.known([], 0.99)
