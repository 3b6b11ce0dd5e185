"""On the bundled model, whose C has a condition number of 5e12, every engine gives the same ρ."""

from __future__ import annotations

import pytest
import torch

from probes import bundled
from probes.keys.many_edits import SharedPrefixes
from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import request
from probes.second_moment.choose import for_model
from rome_diagnosis.defaults import Engines
from rome_diagnosis.errors import UserError

PREFIXES = ["The weather was fine that day. ", "They walked to the river. ", "I think so. "]
EDITS = [request(fact["subject"], fact["prompt"]) for fact in bundled.facts()[::45]]


@pytest.fixture(scope="module")
def ratios(bundled_model: LoadedModel) -> dict[str, torch.Tensor]:
    """ρ of every edit, by engine."""
    model, layer = bundled_model, bundled.edit_layer()
    moment = for_model(model, layer)
    assert moment.ridge == 0 and moment.condition_number > 1e12
    lookups = [lookup(model, edit, prefix) for edit in EDITS for prefix in ("", *PREFIXES)]
    keys = {"bridge": capture(model, lookups, layer).keys.unflatten(0, (len(EDITS), -1))}
    engines: tuple[Engines, ...] = ("general", "fast")
    for engine in engines:
        shared = SharedPrefixes(model.run_by(engine), layer, PREFIXES)
        placed = [at for at in shared.place(EDITS) if not isinstance(at, UserError)]
        keys[engine] = shared.capture(placed).of()
    return {
        name: torch.tensor([moment.ratio(own[0], own.mean(0)) for own in each])
        for name, each in keys.items()
    }


@pytest.mark.parametrize("engine", ["general", "fast"])
def test_the_engines_agree(engine: str, ratios: dict[str, torch.Tensor]) -> None:
    apart = (ratios[engine] - ratios["bridge"]).abs()
    assert len(apart) >= 40
    assert float(apart.max()) < 1e-5
    assert float(apart.median()) < 1e-6
    assert float(ratios["bridge"].std()) > 0.1  # the control: edits differ by far more
