"""Prompts continued by several edited models at once.

A step on a CPU takes as long as reading all weights, so edited models that share all but one matrix
are run together. What attention keeps of every text is what limits how many.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from probes import memory
from probes.edited.weights import Change, edited_by_row
from probes.forward.generate import generate
from probes.model.loaded import LoadedModel

# Share of the weights' memory that keys and values of texts may take.
OF_WEIGHTS = 0.1


def continuations_of(
    model: LoadedModel,
    edits: Sequence[Sequence[Change]],
    layer: int,
    prompts: Sequence[str],
    *,
    n_tokens: int,
    top_k: int | Sequence[int],
    seed: int,
) -> list[list[str]]:
    """Continues prompts with each edited model.

    Args:
        model: The unedited model.
        edits: The changes of each edited model; none are those of the unedited one.
        layer: The edited block.
        prompts: As :func:`probes.forward.generate.generate` takes them, like all others.
        n_tokens: As there.
        top_k: As there.
        seed: As there; every edited model draws with the same.

    Returns:
        For each edited model the continuations of all prompts.

    Raises:
        UserError: As there, and as :func:`probes.edited.weights.edited_by_row`.
    """
    texts: list[list[str]] = []
    at_once = _at_once(model, prompts, n_tokens)
    for start in range(0, len(edits), at_once):
        some = edits[start : start + at_once]
        with edited_by_row(model, some, layer):
            flat = generate(
                model, prompts, n_tokens=n_tokens, top_k=top_k, seed=seed, copies=len(some)
            )
        texts += [flat[i : i + len(prompts)] for i in range(0, len(flat), len(prompts))]
        memory.give_back()
    return texts


def _at_once(model: LoadedModel, prompts: Sequence[str], n_tokens: int) -> int:
    """How many edited models may continue the prompts together."""
    config = model.config
    heads = getattr(config, "n_key_value_heads", None) or config.n_heads
    item = getattr(torch, model.dtype).itemsize
    of_token = 2 * model.n_layers * heads * config.d_head * item
    longest = max(len(model.tokens(prompt).ids) for prompt in prompts) + n_tokens
    return max(1, int(OF_WEIGHTS * model.weight_bytes / (of_token * longest * len(prompts))))
