"""φ: the share of the wanted change that a key receives, known before the edit is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diag.mathematics import response, update
from probes.second_moment.moment import Background
from rome_diagnosis.editors import EDITORS
from tests.diag.mathematics.drawn import D_MLP, close, corpus_moment, draw, edit


def test_phi_is_the_share_of_the_change_that_a_performed_edit_brings(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, values, target = edit(generator)
    others = draw(generator, 9, D_MLP)
    for editor in EDITORS.values():
        change = update.rank_one(editor, keys, values, target, moment)
        wanted = target - update.chosen(values, editor.subtract)
        moved = others @ change.matrix()
        shares = response.share(others, change.u, change.denominator)
        assert torch.allclose(moved, torch.outer(shares, wanted), atol=1e-9)
        assert float(shares.std()) > 1e-3  # it does differ from key to key


def test_the_bare_prompt_gets_rho_from_c_rome_and_a_prefixed_one_its_inverse_from_rome(
    generator,
) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    got = response.responses(keys, found, moment)
    assert close(got["rome"].bare, 1) and close(got["p_rome"].bare, 1)
    assert close(got["c_rome"].bare, found.split.ratio)
    assert abs(found.split.ratio - 1) > 1e-3
    # Over all contexts k̄ receives 1/ρ; the bare prompt's 1 among them is left out.
    n = len(keys)
    assert close(got["rome"].prefixed, (n / found.split.ratio - 1) / (n - 1))
    assert close(got["c_rome"].prefixed, (n - found.split.ratio) / (n - 1))
    alone = response.responses(keys[:1], update.denominators(keys[:1], moment), moment)
    assert alone["rome"].prefixed is None


def test_ordinary_tokens_answer_by_their_root_mean_square(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    first = (keys[0] + 0.01 * draw(generator, 40, D_MLP)).float()
    later = draw(generator, 60, D_MLP).float()
    beside = replace(moment, background=Background(first, later, 1.0, 1.0))
    found = update.denominators(keys, beside)
    got = response.responses(keys, found, beside)
    inverse = torch.linalg.inv(moment.moment)
    for name, editor in EDITORS.items():
        u = inverse @ update.chosen(keys, editor.along)
        for sample, value in (
            (first, got[name].other_first_tokens),
            (later, got[name].later_tokens),
        ):
            expected = (sample.double() @ u / found.raw[name]).square().mean().sqrt()
            assert value == pytest.approx(float(expected), rel=1e-9)
        low, middle, high = got[name].first_token_quantiles
        assert low < middle < high
    # First tokens that are nearly the bare key receive nearly all that P-ROME writes.
    assert got["p_rome"].other_first_tokens == pytest.approx(1, abs=0.2)
    assert got["p_rome"].later_tokens < 0.8 * got["p_rome"].other_first_tokens
    without = response.responses(keys, found, moment)["rome"]
    assert without.other_first_tokens is None and without.later_tokens is None


def test_a_denominator_of_zero_has_no_response(generator) -> None:
    _, moment = corpus_moment(generator)
    keys, _, _ = edit(generator)
    found = update.denominators(keys, moment)
    nothing = replace(found, raw={**found.raw, "rome": 0.0})
    got = response.responses(keys, nothing, moment)
    assert got["rome"] is None
    assert got["c_rome"] is not None
