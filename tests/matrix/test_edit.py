"""Every architecture: what an edit does to the stream, what `verify` says, what is saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from diag.verify.api import prepare
from diag.verify.settings import Facts, Settings, Texts
from probes.model.contribution import contribution
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase, fact
from probes.setup import Setup
from probes.target_value.hyperparameters import Hyperparameters
from tests import oracle, tiny
from tests.matrix.case import EDIT, LAYER, SHORT, TEXTS, Case

FACT = {
    "subject": "France",
    "prompt": "The capital of {} is",
    "target_true": "Paris",
    "target_new": "Rome",
}


@pytest.mark.parametrize("name", tiny.SUPPORTED)
def test_the_stream_moves_as_the_contribution_says(
    name: str, matrix: Callable[[str], Case]
) -> None:
    case = matrix(name)
    moment, tokens = case.moment, case.corpus_and_first_tokens
    before = case.run(case.plain, tokens)
    u = moment.solve(case.keys.mean(0))
    u = u / (before["key"] @ u).abs().max()
    torch.manual_seed(1)
    r = 3 * torch.randn(before["value"].shape[1]).double() * before["value"].norm(dim=1).median()
    edited = oracle.Plain(case.directory)
    edited.weight(LAYER).add_(torch.outer(u, r))
    moved = case.run(edited, tokens)["stream"] - before["stream"]
    largest = float(moved.norm(dim=1).max())
    assert largest > 0.1 * float(before["stream"].norm(dim=1).median())

    said = contribution(case.model, LAYER)
    background = moment.background
    assert background is not None and said.unknown is None
    for sample, streams in (
        (background.first_keys, background.first_streams),
        (background.later_keys, background.later_streams),
    ):
        keys = sample.double()
        change = said.stream_change(keys, streams, (keys @ u)[:, None] * r)
        # Which token a sampled key is of, is known by the key alone.
        apart, same = torch.cdist(keys, before["key"]).min(dim=1)
        assert float(apart.max()) < 1e-4 * float(before["key"].norm(dim=1).max())
        torch.testing.assert_close(change, moved[same], rtol=0, atol=2e-3 * largest)
    if said.scale is None:  # added as it is, the output would move the stream otherwise
        raw = (before["key"] @ u)[:, None] * r
        assert float((raw - moved).norm() / moved.norm()) > 0.02
    else:
        assert said.scale == (0.22 if name == "granite" else 1.0)


@pytest.mark.parametrize("name", tiny.SUPPORTED)
def test_what_verify_says_is_true_of_the_saved_model(
    name: str, matrix: Callable[[str], Case], tmp_path: Path
) -> None:
    case = matrix(name)
    run = prepare(
        Setup(
            model=case.model,
            layer=LAYER,
            prefixes=SHORT,
            second_moment=case.moment,
            quiet=True,
        ),
        Settings(
            hyperparameters=Hyperparameters(evaluations=3),
            texts=Texts.given(TEXTS),
            facts=Facts("one", (fact(FACT),)),
            generated_tokens=2,
        ),
    )
    edit = EditCase(EDIT)
    said = run.one(edit).document["arms"]["rome"]
    run.save_model(edit, "rome", str(tmp_path / "edited"))
    before, after = case.plain, oracle.Plain(tmp_path / "edited")

    changed = {
        name: value - before.model.state_dict()[name]
        for name, value in after.model.state_dict().items()
        if not torch.equal(value, before.model.state_dict()[name])
    }
    assert len(changed) == 1
    difference = after.weight(LAYER) - before.weight(LAYER)
    sizes = torch.linalg.svdvals(difference.double())
    assert sizes[1] < 1e-3 * sizes[0]  # rank one, but for rounding
    assert float(sizes[0]) == pytest.approx(said["update_norm"], rel=1e-3)

    for plain, key in ((before, "before"), (after, "after")):
        assert said["perplexity"][key] == pytest.approx(perplexity(plain, case.model), rel=2e-3)
    assert said["perplexity"]["before"] != said["perplexity"]["after"]

    again = load(tmp_path / "edited")
    text = case.contexts[1]
    with torch.no_grad():
        logits = again.bridge(torch.tensor([text]), return_type="logits")[0].double()
    expected = after.run(text, LAYER)["logits"]
    unedited = before.run(text, LAYER)["logits"]
    close = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(logits, expected, rtol=0, atol=close)
    assert float((unedited - expected).abs().max()) > close
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "edited")) is type(before.model)


def perplexity(plain: oracle.Plain, model: LoadedModel) -> float:
    """Token-weighted, text by text, in pieces no longer than blocks with local attention see."""
    losses: list[torch.Tensor] = []
    for text in TEXTS:
        ids = model.tokens(text).ids
        logits = plain.run(ids, LAYER)["logits"].log_softmax(-1)
        losses += [-logits[i, token] for i, token in enumerate(ids[1:])]
    return float(torch.stack(losses).mean().exp())
