"""The control: keys of an encoder, in which every token sees every other.

If first-token keys of decoders are unlike all others because the first position can see only
itself, an encoder's must not be. The same statistics are computed for T5's encoder, with plain
PyTorch hooks, complete prompts (later text counts here) and a second moment of its own keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from probes.first_token import cells
from probes.first_token.subjects import SubjectCase
from probes.forward.batches import batches_on, to_float64
from probes.model.locate import locate
from probes.request.request import Request
from probes.second_moment.moment import SecondMoment, of_moment
from probes.statistics import Estimate, estimate_mean
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import RATIO_COLLAPSE, TOKENS_PER_DIMENSION

AT_ONCE = 2048  # tokens
CELLS = ("first_bare", "first_prefixed", "later_bare", "later_prefixed")


@dataclass(frozen=True)
class Encoder:
    """A T5 encoder.

    Attributes:
        model: The Hugging Face encoder stack.
        tokenizer: Its fast tokenizer.
        name: The name the user gave.
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
        return self.model.block[layer].layer[-1].DenseReluDense.wo


@dataclass(frozen=True)
class EncoderControl:
    """Statistics of an encoder's first-token keys.

    Attributes:
        name: The encoder.
        layer: The block at which ρ is computed.
        n_layers: Number of blocks.
        n: Number of subjects.
        rho_unprefixed: ρ of the key of the text's first token.
        rho_prefixed: ρ of the prefixed keys.
        below_limit: Share of the subjects with |ρ| below
            :data:`rome_diagnosis.limits.RATIO_COLLAPSE`.
        layers: For each block the cells' and pairs' statistics, in the C⁻¹ metric too.
        n_tokens: Number of tokens from which each block's second moment was estimated.
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


def load_encoder(name_or_path: str) -> Encoder:
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
    """Captures every key of every block.

    Args:
        encoder: The encoder.
        texts: Token ids.

    Returns:
        For each block one ``[token, d_ff]`` float64 tensor per text.
    """
    by_layer: dict[int, dict[int, Tensor]] = {layer: {} for layer in range(encoder.n_layers)}
    device = next(encoder.model.parameters()).device
    for batch in batches_on(device, texts, batch_tokens=AT_ONCE):
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
                by_layer[layer][row] = to_float64(activation[i, : int(batch.last[i]) + 1])
    return {layer: [rows[i] for i in range(len(texts))] for layer, rows in by_layer.items()}


def control(
    encoder: Encoder,
    cases: Sequence[SubjectCase],
    prefixes: Sequence[str],
    texts: Sequence[str],
    *,
    layer: int | None = None,
    count: int = 120,
    seed: int = 0,
) -> EncoderControl:
    """Computes the statistics of an encoder's first-token keys.

    Args:
        encoder: The encoder.
        cases: The subjects; those whose last token is the text's first one are taken.
        prefixes: Contexts 1…n.
        texts: Ordinary prose, for the second moment.
        layer: The block at which ρ is computed; by default one third up.
        count: Take at most this many subjects.
        seed: Seed of the probes' folds and shuffles and of the bootstraps.

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
    usable = [case for case in cases if _locate(encoder, case.first, "")[1] == 0][:count]
    if len(usable) < 2:
        raise UserError(f"only {len(usable)} subjects are the first token of {encoder.name}")
    moments, n_tokens = _moments(encoder, texts)
    subjects = _capture(encoder, usable, prefixes)
    rho = [_rho(subject.first[block], moments[block]) for subject in subjects]
    bare = [float(values[0]) for values in rho]
    unprefixed = estimate_mean(bare, seed=seed)
    prefixed = estimate_mean([float(values[1:].mean()) for values in rho], seed=seed)
    assert unprefixed is not None and prefixed is not None
    return EncoderControl(
        name=encoder.name,
        layer=block,
        n_layers=encoder.n_layers,
        n=len(usable),
        rho_unprefixed=unprefixed,
        rho_prefixed=prefixed,
        below_limit=sum(abs(value) < RATIO_COLLAPSE.value for value in bare) / len(bare),
        layers=[_describe(b, subjects, moments[b], seed) for b in range(encoder.n_layers)],
        n_tokens=n_tokens,
    )


@dataclass(frozen=True)
class _Keys:
    """One subject's keys, each list by block.

    Attributes:
        name: The subject.
        turn: Index of the prefix whose key is used in the cells.
        first: Keys in contexts 0…n of the prompt that begins with the subject, ``[n_ctx, d_ff]``.
        later: Keys in the prompt in which it comes later, bare and prefixed, ``[2, d_ff]``.
    """

    name: str
    turn: int
    first: list[Tensor]
    later: list[Tensor]

    def cell(self, name: str, block: int) -> Tensor:
        """The key that belongs to one of :data:`CELLS`."""
        prefixed = name.endswith("prefixed")
        if name.startswith("later"):
            return self.later[block][int(prefixed)]
        return self.first[block][1 + self.turn if prefixed else 0]


def _capture(
    encoder: Encoder, cases: Sequence[SubjectCase], prefixes: Sequence[str]
) -> list[_Keys]:
    """Keys of every case, in every context of its first prompt and in two of its later one."""
    # Context 0 is the bare prompt, as everywhere.
    places = [_locate(encoder, case.first, prefix) for case in cases for prefix in ("", *prefixes)]
    for i, case in enumerate(cases):
        for prefix in ("", prefixes[i % len(prefixes)]):
            places.append(_locate(encoder, case.later, prefix))
    by_block = [
        torch.stack([row[index] for row, (_, index) in zip(rows, places, strict=True)])
        for rows in keys(encoder, [ids for ids, _ in places]).values()
    ]
    sizes = [len(prefixes) + 1] * len(cases) + [2] * len(cases)
    split = [block.split(sizes) for block in by_block]
    return [
        _Keys(
            name=case.subject,
            turn=i % len(prefixes),
            first=[parts[i] for parts in split],
            later=[parts[len(cases) + i] for parts in split],
        )
        for i, case in enumerate(cases)
    ]


def _rho(contextual: Tensor, moment: SecondMoment) -> Tensor:
    """ρ of one subject's key in each context."""
    solved = moment.solve(contextual.mean(0))
    return contextual @ solved / (contextual.mean(0) @ solved)


def _describe(
    layer: int, subjects: Sequence[_Keys], moment: SecondMoment, seed: int
) -> dict[str, Any]:
    """Statistics of the cells and of their pairs at one block."""
    members = [subject.name for subject in subjects]
    by_cell = {
        name: torch.stack([subject.cell(name, layer) for subject in subjects]) for name in CELLS
    }
    groups = {name: cells.Cell(name, [], members) for name in CELLS}
    pairs = [pair for pair in cells.PAIRS if set(pair) <= set(groups)]
    return {
        "layer": layer,
        "cells": {
            name: asdict(cells.describe_cells(keys, moment)) for name, keys in by_cell.items()
        },
        "pairs": [
            asdict(cells.compare_cells(groups[a], groups[b], by_cell, moment, seed=seed))
            for a, b in pairs
        ],
    }


def _moments(encoder: Encoder, texts: Sequence[str]) -> tuple[list[SecondMoment], int]:
    """Second moment of every block's keys, and from how many tokens it was estimated."""
    rows = [encoder.tokenizer(text)["input_ids"] for text in texts]
    n_tokens = sum(len(row) for row in rows)
    width = int(encoder.model.config.d_ff)
    least = int(TOKENS_PER_DIMENSION.value * width)
    if n_tokens < least:
        raise UserError(
            f"{n_tokens} tokens of text are too few for the second moment of {width} dimensions of "
            f"{encoder.name}: give {least} or more"
        )
    moments = []
    for of_block in keys(encoder, rows).values():
        flat = torch.cat(of_block)
        moments.append(of_moment(flat.T @ flat / len(flat), source="estimated"))
    return moments, n_tokens


def _locate(encoder: Encoder, edit: Request, prefix: str) -> tuple[list[int], int]:
    """Token ids of a prompt after a prefix, and the index of the subject's last token."""
    return _find(encoder, prefix + edit.text, len(prefix) + len(edit.before) + len(edit.subject))


def _find(encoder: Encoder, text: str, end: int) -> tuple[list[int], int]:
    """Token ids of a text, and the index of the token that holds the character before ``end``."""
    encoded = encoder.tokenizer(text, return_offsets_mapping=True)
    offsets = encoded["offset_mapping"]
    covering = [i for i, (start, stop) in enumerate(offsets) if start < end <= stop]
    if not covering:
        raise UserError(f"the tokenizer of {encoder.name} drops the subject in {text[:60]!r}")
    return list(encoded["input_ids"]), covering[-1]
