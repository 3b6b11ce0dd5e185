"""Where a model looks facts up: causal tracing of facts that it knows.

Noise on the subject's embeddings makes a model forget a fact. Then the MLPs of a few neighbouring
blocks are given back what they put out at the subject's last token without noise. The blocks whose
MLPs bring the fact back are those that look it up, and where ROME writes.

Source: Meng et al. 2022, *Locating and Editing Factual Associations in GPT*, section 2. Three times
the embeddings' standard deviation is their noise; their window of 10 of 48 blocks is a fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.edited.answers import target_tokens
from probes.forward.batches import batches
from probes.forward.bridge import Hook, last_logits, run_to
from probes.forward.engine import engine_for
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import Request
from rome_diagnosis.errors import UserError

NOISE = 3.0
WINDOW = 5  # blocks for each one in a window


@dataclass(frozen=True)
class Fact:
    """A known fact as tokens.

    Attributes:
        ids: The prompt.
        subject: Index of the subject's first token, and of its last.
        answer: The true object's first token.
    """

    ids: list[int]
    subject: tuple[int, int]
    answer: int


@dataclass(frozen=True)
class Trace:
    """What gives facts back, block by block.

    Attributes:
        clean: Probability of each fact's answer.
        noisy: The same with noise on the subject.
        restored: The same when the MLPs around each block are restored at the subject's last token.
        window: How many blocks are restored together.
    """

    clean: Float[Tensor, " fact"]
    noisy: Float[Tensor, " fact"]
    restored: Float[Tensor, "fact block"]
    window: int

    @property
    def effect(self) -> Float[Tensor, " block"]:
        """Mean share of what the noise took that each window gives back."""
        lost = (self.clean - self.noisy).mean()
        return (self.restored - self.noisy[:, None]).mean(0) / lost

    @property
    def layer(self) -> int:
        """The block in the middle of the window that gives back most.

        Windows with block 0 are left out where others are left: its MLP reads little but the token
        itself and is as good as part of the embedding, so that restoring it undoes the noise.
        """
        after = min(self.window // 2 + 1, len(self.effect) - 1)
        return after + int(self.effect[after:].argmax())


def known(model: LoadedModel, facts: Sequence[Request]) -> list[Fact]:
    """The facts whose true object's first token the model finds likeliest.

    Args:
        model: The model.
        facts: With true objects; those that cannot be looked up are left out.

    Returns:
        Those it knows, as tokens.
    """
    read = [fact for fact in (_tokens(model, edit) for edit in facts) if fact is not None]
    right: set[int] = set()
    engine = engine_for(model)
    for batch in batches([fact.ids for fact in read], model):
        logits = engine.decode([read[row].ids for row in batch.rows]).logits()
        right |= {row for row, token in zip(batch.rows, logits.argmax(-1).tolist(), strict=True)
                  if token == read[row].answer}  # fmt: skip
    return [read[row] for row in sorted(right)]


def _tokens(model: LoadedModel, edit: Request) -> Fact | None:
    try:
        last = lookup(model, edit).index
        prompt, answer = target_tokens(model, edit.text, str(edit.target_true))
    except UserError:
        return None
    offsets = model.tokens(edit.text).offsets
    start = next(i for i, (_, stop) in enumerate(offsets) if stop > len(edit.before))
    return Fact(prompt, (start, last), answer[0])


def trace(
    model: LoadedModel,
    facts: Sequence[Fact],
    *,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Trace:
    """Traces facts, each in one pass: a clean row, a noisy one, and one for each block.

    Args:
        model: The model.
        facts: Known facts, at least one.
        seed: Seed of the noise.
        progress: Called with the number of facts done.

    Returns:
        The trace.

    Raises:
        UserError: If there are no facts.
    """
    if not facts:
        raise UserError("there is nothing to trace: the model knows none of the facts")
    size = NOISE * _spread(model, facts)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for i, fact in enumerate(facts):
        rows.append(_probabilities(model, fact, size, generator))
        progress(i + 1)
    probabilities = torch.stack(rows)
    return Trace(probabilities[:, 0], probabilities[:, 1], probabilities[:, 2:], _window(model))


def _window(model: LoadedModel) -> int:
    return max(1, model.n_layers // WINDOW)


def _spread(model: LoadedModel, facts: Sequence[Fact]) -> float:
    """Standard deviation of the coordinates of the subjects' embeddings."""
    seen: list[Tensor] = []
    for batch in batches([fact.ids for fact in facts], model):

        def keep(stream: Tensor, hook: Any, rows: Sequence[int] = batch.rows) -> None:
            for i, row in enumerate(rows):
                start, last = facts[row].subject
                seen.append(stream[i, start : last + 1].flatten().double())

        run_to(model, batch, 0, [(model.hook(0, "resid_pre"), keep)])
    return float(torch.cat(seen).std())


@torch.no_grad()
def _probabilities(
    model: LoadedModel, fact: Fact, size: float, generator: torch.Generator
) -> Float[Tensor, " row"]:
    """The answer's probability: clean, noisy, and with the MLPs around each block restored."""
    n, (start, last) = model.n_layers, fact.subject
    ids = torch.tensor([fact.ids], device=model.device).expand(n + 2, -1)
    window = _window(model)

    def corrupt(stream: Tensor, hook: Any) -> Tensor:
        noise = torch.randn(last + 1 - start, stream.shape[-1], generator=generator) * size
        changed = stream.clone()
        changed[1:, start : last + 1] += noise.to(changed)
        return changed

    def restore(block: int) -> Callable[[Tensor, Any], Tensor]:
        # Those windows [centre − window // 2, … + window) that the block lies in.
        stop = block + window // 2 + 1
        rows = slice(2 + max(0, stop - window), 2 + min(n, stop))

        def hook(output: Tensor, hook: Any) -> Tensor:
            changed = output.clone()
            changed[rows, last] = output[0, last]
            return changed

        return hook

    hooks: list[Hook] = [(model.hook(0, "resid_pre"), corrupt)]
    hooks += [(model.hook(block, "value"), restore(block)) for block in range(n)]
    logits = last_logits(model, ids, hooks)
    return logits.double().softmax(-1)[:, fact.answer].cpu()
