"""Continuing texts token by token, and how repetitive the result is.

One loop draws prefixes and generates answers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.forward.engine import Engine, engine_for
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError

# Rows whose logits are looked at together in float64: there is one for every word of a vocabulary.
ROWS = 8


@torch.no_grad()
def continuations(
    engine: Engine,
    rows: Sequence[Sequence[int]],
    n_tokens: int | Sequence[int],
    *,
    top_k: int | Sequence[int],
    generators: Sequence[torch.Generator],
    one_model: bool = False,
    require_finite: bool = False,
) -> list[list[int]]:
    """Draws the next tokens of each row, all rows in step.

    Args:
        engine: Runs the model.
        rows: Token ids, none empty.
        n_tokens: How many tokens to draw, for all rows or for each; rows that have theirs are
            run no further.
        top_k: From how many of the most probable tokens each is drawn, for all rows or for each;
            1 takes the most probable.
        generators: One for each row, on the CPU; neighbouring rows with the same one are drawn for
            together.
        one_model: Whether equal rows are run once until their draws part; not within
            :func:`probes.edited.weights.edited_by_row`.
        require_finite: Whether to refuse logits that are not finite. Otherwise NaN counts as
            impossible: an edit can break a model so thoroughly that it predicts nothing.

    Returns:
        The tokens drawn for each row.

    Raises:
        UserError: If logits are not finite and have to be.
    """
    wanted = [n_tokens] * len(rows) if isinstance(n_tokens, int) else n_tokens
    growing = [i for i, n in enumerate(wanted) if n > 0]
    drawn: list[list[int]] = [[] for _ in rows]
    if not growing:
        return drawn
    counts = torch.tensor([top_k] * len(rows) if isinstance(top_k, int) else top_k)
    starts = [tuple(rows[i]) for i in growing]
    distinct = list(dict.fromkeys(starts)) if one_model else starts
    decoder, running = engine.decode(distinct), len(distinct)
    # Where each row runs: with its equals up to the first draw, then by itself.
    at = [distinct.index(start) for start in starts] if one_model else list(range(running))
    while True:
        logits = decoder.logits()[:, : len(engine.model.tokenizer)]
        if require_finite:
            _check_finite(engine.model, logits)
        chances = _most_probable(logits, at, counts[growing])
        tokens = _drawn(chances, [generators[i] for i in growing])
        for i, token in zip(growing, tokens[:, 0].tolist(), strict=True):
            drawn[i].append(token)
        staying = [j for j, i in enumerate(growing) if len(drawn[i]) < wanted[i]]
        if not staying:
            return drawn
        own = [at[j] for j in staying]
        if own != list(range(running)):
            decoder.keep(own)
        decoder.append(tokens[staying])
        growing, running = [growing[j] for j in staying], len(staying)
        at = list(range(running))


def _check_finite(model: LoadedModel, logits: Tensor) -> None:
    if not bool(logits.isfinite().all()):
        raise UserError(
            f"the logits of {model.name} are not finite in {model.dtype}: its weights hold NaN, "
            "or are too large for that type"
        )


def _most_probable(
    logits: Float[Tensor, "run vocabulary"], at: Sequence[int], counts: Int[Tensor, " row"]
) -> tuple[Float[Tensor, "row top"], Int[Tensor, "row top"]]:
    """The most probable tokens of each row, as many as counted, and their chances in float64."""
    n = min(int(counts.max()), logits.shape[1])
    tops = [
        logits[at[start : start + ROWS]].to("cpu", torch.float64).nan_to_num(-1e30).topk(n, dim=-1)
        for start in range(0, len(at), ROWS)
    ]
    allowed = torch.arange(n) < counts[:, None]
    values = torch.cat([top.values for top in tops]).masked_fill(~allowed, -math.inf)
    return values.softmax(-1), torch.cat([top.indices for top in tops])


def _drawn(
    top: tuple[Float[Tensor, "row top"], Int[Tensor, "row top"]],
    generators: Sequence[torch.Generator],
) -> Int[Tensor, "row 1"]:
    """Draws a token for each row, for neighbouring rows of one generator at once."""
    chances, ids = top
    runs = [(own, len([*same])) for own, same in groupby(generators)]
    parts = zip(chances.split([n for _, n in runs]), runs, strict=True)
    return ids.gather(
        1, torch.cat([torch.multinomial(part, 1, generator=own) for part, (own, _) in parts])
    )


def generate(
    model: LoadedModel,
    prompts: Sequence[str],
    *,
    n_tokens: int = 40,
    top_k: int | Sequence[int] = 1,
    seed: int = 0,
    copies: int = 1,
) -> list[str]:
    """Continues prompts with the model's present weights.

    Args:
        model: The model, perhaps inside :func:`probes.edited.weights.edited`.
        prompts: Texts, none empty.
        n_tokens: Tokens to add to each; fewer where the model's context ends.
        top_k: As in :func:`continuations`.
        seed: Seed of the draws.
        copies: How often to continue all prompts, with the same draws each time: for
            :func:`probes.edited.weights.edited_by_row`.

    Returns:
        The continuations, without the prompts; all of one copy before those of the next.

    Raises:
        UserError: If a prompt fills the model's context.
    """
    rows = [model.tokens(prompt).ids for prompt in prompts] * copies
    width = max(len(row) for row in rows)
    if width >= model.n_ctx:
        raise UserError(
            f"a prompt has {width} tokens, but {model.name} reads only {model.n_ctx}: "
            "there is no room for an answer"
        )
    drawn = continuations(
        engine_for(model),
        rows,
        min(n_tokens, model.n_ctx - width),
        top_k=top_k if isinstance(top_k, int) else list(top_k) * copies,
        generators=[
            own
            for own in [torch.Generator().manual_seed(seed) for _ in range(copies)]
            for _ in prompts
        ],
    )
    return [
        model.tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row in drawn
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
