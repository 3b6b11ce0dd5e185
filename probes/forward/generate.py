"""Free generation, and how repetitive what comes out is."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import torch
from transformers.cache_utils import DynamicCache

from probes.forward.unhooked import plain
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError


@torch.no_grad()
def generate(
    model: LoadedModel,
    prompts: Sequence[str],
    *,
    n_tokens: int = 40,
    top_k: int | Sequence[int] = 1,
    seed: int = 0,
) -> list[str]:
    """Continues prompts with the model's present weights.

    Args:
        model: The loaded model, perhaps inside :func:`probes.edited.weights.edited`.
        prompts: None may be empty.
        n_tokens: Tokens to add to each; fewer where the model's context ends.
        top_k: How many of the most probable tokens are drawn from, for all prompts or for each; 1
            is greedy.
        seed: Of the draws.

    Returns:
        The continuations, without the prompts.

    Raises:
        UserError: If a prompt fills the model's context.
    """
    whole, device = plain(model).model, model.device
    rows = [model.tokens(prompt).ids for prompt in prompts]
    width = max(len(row) for row in rows)
    if width >= model.n_ctx:
        raise UserError(
            f"a prompt has {width} tokens, but {model.name} reads only {model.n_ctx}: "
            "there is no room for an answer"
        )
    count = [top_k] * len(rows) if isinstance(top_k, int) else list(top_k)
    vocabulary = len(model.tokenizer)
    largest = min(max(count), vocabulary)
    allowed = torch.arange(largest) < torch.tensor(count)[:, None]
    generator = torch.Generator().manual_seed(seed)
    # Padding stands on the left, so that all rows go on at the same place.
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=whole.config)
    drawn: list[torch.Tensor] = []
    for _ in range(min(n_tokens, model.n_ctx - width)):
        result = whole(
            ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        # An edit can break a model so thoroughly that it predicts nothing.
        logits = result.logits[:, -1, :vocabulary].to("cpu", torch.float64).nan_to_num(-1e30)
        top = logits.topk(largest, dim=-1)
        scores = top.values.masked_fill(~allowed, -math.inf)
        choice = torch.multinomial(scores.softmax(-1), 1, generator=generator)
        drawn.append(top.indices.gather(1, choice))
        ids = drawn[-1].to(device)
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[:, -1:] + 1
    texts = torch.cat(drawn, dim=1).tolist()
    return [
        model.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row in texts
    ]


def n_gram_entropy(texts: Sequence[str]) -> float:
    """Mean entropy of the texts' bigrams and trigrams, in bits: low means repetitive.

    Args:
        texts: Generated texts; those without two words count 0.

    Returns:
        The mean over texts of (2/3 · H₂ + 4/3 · H₃) / 2, the weights of the published evaluation.

    Raises:
        ValueError: If there are no texts.
    """
    if not texts:
        raise ValueError("no texts: their entropy is not defined")
    return sum(
        sum(weight * _entropy(text, n) for n, weight in ((2, 2 / 3), (3, 4 / 3))) / 2
        for text in texts
    ) / len(texts)


def _entropy(text: str, n: int) -> float:
    words = re.findall(r"\w+|[^\w\s]", text)
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = sum(counts.values())
    return -sum(c / total * math.log2(c / total) for c in counts.values())
