"""Every architecture: activations that are written and attention that is blocked take effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from probes.forward.counterfactual import (
    Patch,
    Reading,
    causal,
    is_parallel,
    perform_readings,
    record,
)
from probes.model.architecture import PatchSite
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.matrix.case import EDIT, LAYER, SHORT, Case

UNTAKEN = ("bloom", "bloom-post")  # positions are counted in the attention mask


@pytest.mark.parametrize("name", [name for name in tiny.SUPPORTED if name not in UNTAKEN])
def test_interventions(name: str, matrix: Callable[[str], Case]) -> None:
    case = matrix(name)
    ids = case.model.tokens(SHORT[0] + EDIT.subject).ids
    run = Reading(ids, read=len(ids) - 1, tail=2)
    expected = case.plain.run(ids, LAYER)["key"][-1]
    apart = _apart(expected)
    unchanged = perform_readings(case.model, [run], LAYER)[0]
    assert apart(unchanged) < 1e-5
    torch.manual_seed(0)
    for site in get_args(PatchSite):
        for block in (0, LAYER):
            if block == LAYER and (
                site == "mlp" or (site == "attention" and is_parallel(case.model))
            ):
                continue  # the key comes before it
            own = record(case.model, [run], LAYER, [(block, site)])[(block, site)]
            other = [torch.randn_like(own[0])]
            for values, changes in ((own, False), (other, True)):
                patches = [Patch((block, site), values)]
                distance = apart(perform_readings(case.model, [run], LAYER, patches=patches)[0])
                assert distance > 1e-3 if changes else distance < 1e-5, (site, block)
    sees = causal(len(ids)).clone()
    sees[-1, : len(ids) - 1] = False
    assert (
        apart(perform_readings(case.model, [Reading(ids, run.read, run.tail, sees=sees)], LAYER)[0])
        > 1e-3
    )


@pytest.mark.parametrize("name", UNTAKEN)
def test_where_they_cannot_be_performed_they_are_refused(
    name: str, matrix: Callable[[str], Case]
) -> None:
    model = matrix(name).model
    ids = model.tokens("Paris").ids
    with pytest.raises(UserError, match=f"tiny-{name}.*counts positions in its attention mask"):
        perform_readings(model, [Reading(ids, read=len(ids) - 1, tail=1)], LAYER)


def _apart(expected: torch.Tensor) -> Callable[[torch.Tensor], float]:
    return lambda key: float((key - expected).norm() / expected.norm())
