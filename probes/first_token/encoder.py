"""The control: keys of an encoder, in which every token sees every other.

If first-token keys of decoders are unlike all others because the first position can see only
itself, an encoder's must not be. The same statistics are taken of T5's encoder, with plain PyTorch
hooks, whole prompts (later text counts here) and a second moment of its own keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from probes.definitions import SMALL_RATIO, TOKENS_PER_DIMENSION
from probes.first_token import cells
from probes.first_token.subjects import Case
from probes.forward.batches import batches, to_float64
from probes.model.locate import locate
from probes.second_moment.moment import SecondMoment, of_moment
from probes.statistics import Estimate, estimate
from rome_diagnosis.errors import UserError

CELLS = ("first_bare", "first_prefixed", "later_bare", "later_prefixed")


@dataclass(frozen=True)
class Encoder:
    """A T5 encoder.

    Attributes:
        model: The Hugging Face encoder stack.
        tokenizer: Its fast tokenizer.
        name: What the user called it.
    """

    model: Any
    tokenizer: Any
    name: str

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.model.block)

    def output_projection(self, layer: int) -> torch.nn.Module:
        """The module whose input is the key."""
        found: torch.nn.Module = self.model.block[layer].layer[-1].DenseReluDense.wo
        return found


@dataclass(frozen=True)
class EncoderControl:
    """The statistics of first-token keys, of an encoder.

    Attributes:
        name: The encoder.
        layer: The block whose ρ is told.
        n_layers: Number of blocks.
        n: How many subjects.
        rho_unprefixed: ρ of the key that stands first in the text.
        rho_prefixed: ρ of the prefixed keys.
        below_limit: Share of the subjects with |ρ| below
            :data:`probes.definitions.SMALL_RATIO`.
        layers: For each block the cells' and pairs' statistics, in the C⁻¹ metric too.
        n_tokens: Tokens that each block's second moment was estimated from.
    """

    name: str
    layer: int
    n_layers: int
    n: int
    rho_unprefixed: Estimate
    rho_prefixed: Estimate
    below_limit: float
    layers: list[dict[str, Any]]
    n_tokens: int


def load(name_or_path: str) -> Encoder:
    """Loads a T5 encoder.

    Args:
        name_or_path: A directory in Hugging Face layout, or a hub name.

    Returns:
        The encoder.

    Raises:
        UserError: If it cannot be loaded or is not T5's.
    """
    from transformers import AutoConfig, AutoTokenizer, T5EncoderModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    source, local = locate(name_or_path)
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local)
        if config.model_type != "t5":
            raise UserError(f"{name_or_path} is a {config.model_type}: the encoder control is T5's")
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
        model = T5EncoderModel.from_pretrained(source, local_files_only=local)
    except UserError:
        raise
    except Exception as error:  # the libraries raise OSError, ValueError, KeyError …
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"cannot load encoder {name_or_path!r}: {reason}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"the tokenizer of {name_or_path} gives no character offsets")
    return Encoder(model.encoder.eval().requires_grad_(False), tokenizer, name_or_path)


@torch.no_grad()
def keys(encoder: Encoder, texts: Sequence[Sequence[int]]) -> dict[int, list[Tensor]]:
    """Runs texts and keeps every key of every block.

    Args:
        encoder: The encoder.
        texts: Token ids.

    Returns:
        For each block one ``[token, d_ff]`` tensor a text, float64.
    """
    found: dict[int, dict[int, Tensor]] = {layer: {} for layer in range(encoder.n_layers)}
    device = next(encoder.model.parameters()).device
    for batch in batches(texts, device):
        seen: dict[int, Tensor] = {}
        handles = [
            encoder.output_projection(layer).register_forward_pre_hook(
                lambda module, inputs, layer=layer, seen=seen: seen.update({layer: inputs[0]})
            )
            for layer in range(encoder.n_layers)
        ]
        try:
            encoder.model(input_ids=batch.ids, attention_mask=batch.mask)
        finally:
            for handle in handles:
                handle.remove()
        for layer, activation in seen.items():
            for i, row in enumerate(batch.rows):
                found[layer][row] = to_float64(activation[i, : int(batch.last[i]) + 1])
    return {layer: [rows[i] for i in range(len(texts))] for layer, rows in found.items()}


def control(
    encoder: Encoder,
    cases: Sequence[Case],
    prefixes: Sequence[str],
    texts: Sequence[str],
    *,
    layer: int | None = None,
    count: int = 120,
    seed: int = 0,
) -> EncoderControl:
    """Takes the statistics of first-token keys of an encoder.

    Args:
        encoder: The encoder.
        cases: The subjects; those whose last token is the text's first one are taken.
        prefixes: Contexts 1…n.
        texts: Ordinary prose, for the second moment.
        layer: The block whose ρ is told; by default one third up.
        count: How many subjects at most.
        seed: Of folds, shuffles and bootstraps.

    Returns:
        The control.

    Raises:
        UserError: If fewer than two subjects can be used, there is no such block, or the text is
            too short for a second moment.
    """
    block = encoder.n_layers // 3 if layer is None else layer
    if not 0 <= block < encoder.n_layers:
        raise UserError(f"{encoder.name} has blocks 0 to {encoder.n_layers - 1}, not {block}")
    if not prefixes:
        raise UserError("the encoder control compares with prefixed prompts: give a prefix")
    usable = [case for case in cases if _find(encoder, case.first.text, _end(case, ""))[1] == 0]
    usable = usable[:count]
    if len(usable) < 2:
        raise UserError(f"only {len(usable)} subjects are the first token of {encoder.name}")
    moments, n_tokens = _moments(encoder, texts)
    # Row 0 the bare prompt, as everywhere.
    contexts = ["", *prefixes]
    found: dict[tuple[int, int | str], tuple[list[int], int]] = {
        (i, c): _find(encoder, prefix + case.first.text, _end(case, prefix))
        for i, case in enumerate(usable)
        for c, prefix in enumerate(contexts)
    }
    for i, case in enumerate(usable):
        turn = prefixes[i % len(prefixes)]
        for cell, prefix in (("later_bare", ""), ("later_prefixed", turn)):
            edit = case.later
            end = len(prefix) + len(edit.before) + len(edit.subject)
            found[i, cell] = _find(encoder, prefix + edit.text, end)
    every = keys(encoder, [ids for ids, _ in found.values()])
    at = [index for _, index in found.values()]
    read = {
        key: {b: rows[row][at[row]] for b, rows in every.items()} for row, key in enumerate(found)
    }
    members = [case.subject for case in usable]
    layers = []
    for b in range(encoder.n_layers):
        of_cells = {
            "first_bare": [read[i, 0][b] for i in range(len(usable))],
            "first_prefixed": [read[i, 1 + i % len(prefixes)][b] for i in range(len(usable))],
            "later_bare": [read[i, "later_bare"][b] for i in range(len(usable))],
            "later_prefixed": [read[i, "later_prefixed"][b] for i in range(len(usable))],
        }
        stacked = {name: torch.stack(rows) for name, rows in of_cells.items()}
        layers.append(_describe(b, stacked, members, moments[b], seed))
    rho = []
    for i in range(len(usable)):
        contextual = torch.stack([read[i, c][block] for c in range(len(contexts))])
        solved = moments[block].solve(contextual.mean(0))
        rho.append(contextual @ solved / (contextual.mean(0) @ solved))
    bare = [float(values[0]) for values in rho]
    unprefixed = estimate(bare, seed=seed)
    prefixed = estimate([float(values[1:].mean()) for values in rho], seed=seed)
    assert unprefixed is not None and prefixed is not None
    return EncoderControl(
        name=encoder.name,
        layer=block,
        n_layers=encoder.n_layers,
        n=len(usable),
        rho_unprefixed=unprefixed,
        rho_prefixed=prefixed,
        below_limit=sum(abs(value) < SMALL_RATIO for value in bare) / len(bare),
        layers=layers,
        n_tokens=n_tokens,
    )


def _describe(
    layer: int,
    found: dict[str, Tensor],
    members: list[str],
    moment: SecondMoment,
    seed: int,
) -> dict[str, Any]:
    made = {name: cells.Cell(name, [], members) for name in CELLS}
    pairs = [pair for pair in cells.PAIRS if set(pair) <= set(made)]
    return {
        "layer": layer,
        "cells": {name: asdict(cells.describe(keys, moment)) for name, keys in found.items()},
        "pairs": [
            asdict(cells.compare(made[a], made[b], found, moment, seed=seed)) for a, b in pairs
        ],
    }


def _moments(encoder: Encoder, texts: Sequence[str]) -> tuple[list[SecondMoment], int]:
    rows = [encoder.tokenizer(text)["input_ids"] for text in texts]
    found = []
    n_tokens = sum(len(row) for row in rows)
    width = int(encoder.model.config.d_ff)
    least = int(TOKENS_PER_DIMENSION * width)
    if n_tokens < least:
        raise UserError(
            f"{n_tokens} tokens of text are too few for the second moment of {width} dimensions of "
            f"{encoder.name}: give {least} or more"
        )
    for of_block in keys(encoder, rows).values():
        flat = torch.cat(of_block)
        found.append(of_moment(flat.T @ flat / len(flat), source="estimated"))
    return found, n_tokens


def _end(case: Case, prefix: str) -> int:
    return len(prefix) + len(case.first.before) + len(case.first.subject)


def _find(encoder: Encoder, text: str, end: int) -> tuple[list[int], int]:
    """Token ids of a text, and the index of the token that holds the character before ``end``."""
    encoded = encoder.tokenizer(text, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    covering = [i for i, (start, stop) in enumerate(offsets) if start < end <= stop]
    if not covering:
        raise UserError(f"the tokenizer of {encoder.name} drops the subject in {text[:60]!r}")
    return list(encoded["input_ids"]), covering[-1]
