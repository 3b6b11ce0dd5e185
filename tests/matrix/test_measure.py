"""Every architecture: lookup, keys, v, C and denominators against plain PyTorch hooks and numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from diag.keys import diagnose
from diag.screen.shard import Screener
from probes.keys.many_edits import SharedPrefixes
from probes.keys.one_edit import capture
from probes.request.lookup import lookup
from tests import tiny
from tests.matrix.case import EDIT, LAYER, PREFIXES, Case

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("name", tiny.SUPPORTED)
def test_keys_and_second_moment(name: str, matrix: Callable[[str], Case]) -> None:
    case = matrix(name)
    model, plain = case.model, case.plain

    looked = [lookup(model, EDIT, prefix) for prefix in ("", *PREFIXES)]
    assert [at.ids for at in looked] == case.contexts

    seen = capture(model, looked, LAYER)
    torch.testing.assert_close(seen.keys, case.keys, **CLOSE)
    values = torch.stack([plain.run(ids, LAYER)["value"][-1] for ids in case.contexts])
    torch.testing.assert_close(seen.values, values, **CLOSE)
    torch.testing.assert_close(model.mlp_output(seen.keys, LAYER), values, **CLOSE)
    weight, module = plain.weight(LAYER).double(), model.output_weight(LAYER)
    assert torch.equal(weight.float(), module)
    bias = (values - case.keys @ weight).mean(0)
    torch.testing.assert_close(case.keys @ weight + bias, values, **CLOSE)  # v is k @ W + b

    keys = case.corpus["key"]
    moment = case.moment
    assert moment.d_mlp == keys.shape[1]
    assert moment.provenance is not None and moment.provenance.n_tokens == len(keys)
    torch.testing.assert_close(moment.moment, keys.T @ keys / len(keys), **CLOSE)
    assert moment.background is not None
    later = case.corpus["stream"][~case.corpus["first"]].norm(dim=1)
    assert moment.background.residual_norm == pytest.approx(float(later.median()), rel=1e-4)


@pytest.mark.parametrize("name", tiny.SUPPORTED)
def test_denominators(name: str, matrix: Callable[[str], Case]) -> None:
    case = matrix(name)
    moment = case.moment
    solved_by = moment.moment.numpy() + moment.ridge * np.eye(moment.d_mlp)
    bare, mean = case.keys[0].numpy(), case.keys.mean(0).numpy()
    direction = np.linalg.solve(solved_by, mean)
    expected = {
        "rome": direction @ bare,
        "c_rome": direction @ mean,
        "p_rome": np.linalg.solve(solved_by, bare) @ bare,
    }
    assert abs(expected["rome"] / expected["c_rome"] - 1) > 1e-3  # contexts do change the key

    diagnosed = diagnose(
        EDIT.subject,
        EDIT.prompt,
        model=case.model,
        layer=LAYER,
        prefixes=list(PREFIXES),
        second_moment=moment,
    ).document["denominators"]
    screened = Screener(SharedPrefixes(case.model, LAYER, PREFIXES), moment).screen([EDIT])[0]
    assert isinstance(screened, dict)
    for editor, value in expected.items():
        assert diagnosed[editor] == pytest.approx(value, rel=2e-3), editor
        assert screened[f"d_{editor}"] == pytest.approx(value, rel=2e-3), editor
