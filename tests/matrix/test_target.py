"""Every architecture: the loss that v* minimises, recomputed by a plain hook, text by text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import optimise
from tests import oracle, tiny
from tests.matrix.case import EDIT, LAYER, SHORT, Case

CHOSEN = Hyperparameters(evaluations=3, weight_decay=0.02, clamp_norm_factor=3.0)


@pytest.mark.parametrize("name", tiny.SUPPORTED)
def test_the_loss_is_that_of_the_whole_model(name: str, matrix: Callable[[str], Case]) -> None:
    case = matrix(name)
    (target,) = optimise(case.model, [EDIT], SHORT, LAYER, CHOSEN)
    delta = target.delta.double().cpu()
    assert float(delta.norm()) > 0.1 * float(target.initial.norm())
    torch.testing.assert_close(
        target.initial.double().cpu(),
        case.plain.run(case.contexts[0], LAYER)["value"][-1],
        rtol=1e-4,
        atol=1e-5,
    )
    for said, added in ((target.losses[0], 0 * delta), (target.losses[-1], delta)):
        assert said == pytest.approx(loss(case, added), rel=2e-5)
    assert abs(target.losses[-1] / target.losses[0] - 1) > 1e-4


def loss(case: Case, delta: torch.Tensor) -> float:
    """Negative log-likelihood over contexts, Kullback–Leibler divergence, and decay of δ."""
    tokenizer, plain = case.model.tokenizer, case.plain
    nll = []
    for prefix in ("", *SHORT):
        prompt = tokenizer(prefix + EDIT.text)["input_ids"]
        ids = tokenizer(f"{prefix}{EDIT.text} {EDIT.target_new}")["input_ids"]
        at = subject(case, prefix, EDIT.text)
        log_probs = logits(plain, ids, at, delta).log_softmax(-1)
        positions = range(len(prompt), len(ids))
        nll.append(-torch.stack([log_probs[i - 1, ids[i]] for i in positions]).mean())
    held = f"{EDIT.subject} is a"
    at = subject(case, "", held)
    ids = tokenizer(held)["input_ids"][: at + 1]
    before, after = (logits(plain, ids, at, d)[at].log_softmax(-1) for d in (0 * delta, delta))
    moved = (after.exp() * (after - before)).sum()
    length = plain.run(case.contexts[0], LAYER)["value"][-1].norm()
    decay = CHOSEN.weight_decay * delta.norm() / length**2
    return float(torch.stack(nll).mean() + CHOSEN.kl_factor * moved + decay)


def subject(case: Case, prefix: str, text: str) -> int:
    """Index of the subject's last token, which bytes tell."""
    end = len(prefix) + len(EDIT.subject)
    last = oracle.last_token(case.directory, prefix + text, end)
    assert last is not None
    return last + int(case.model.bos)


@torch.no_grad()
def logits(plain: oracle.Plain, ids: list[int], at: int, delta: torch.Tensor) -> torch.Tensor:
    """The plain model's logits with δ added to the projection's output at one token."""

    def add(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        changed = output.reshape(len(ids), -1).clone()
        changed[at] += delta.float()
        return changed.reshape(output.shape)

    handle = oracle.output_projection(plain.model, LAYER).register_forward_hook(add)
    result: torch.Tensor = plain.model(torch.tensor([ids])).logits[0].double()
    handle.remove()
    return result
