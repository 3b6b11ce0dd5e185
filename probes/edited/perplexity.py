"""Perplexity of a text set, before an edit and after many.

An edit changes nothing below its own block. The texts run through the whole model once; what the
edit adds to the residual stream follows from the recorded keys, and only the blocks above run
again for each edit.

Two averages are in use and both are given: the token-weighted one, exp of the mean loss over all
tokens, on which criteria rest, and the mean over texts of each text's own perplexity, which the
ME-PPL papers report and which a few short texts can dominate.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from probes.edited.blocks_above import LARGEST_LOGITS, Recording, UpperBlocks
from probes.edited.weights import Factors, change_of_output
from probes.forward.batches import batches
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a text set.

    Attributes:
        token_weighted: exp of the mean loss over all predicted tokens.
        text_mean: Mean over the texts of each one's perplexity.
        loss: Mean loss over all predicted tokens, in nats.
        n_tokens: Predicted tokens: all but each row's first.
        n_texts: Texts with at least one predicted token.
        bos: Whether a begin-of-sequence token stood in front of every row.
    """

    token_weighted: float
    text_mean: float
    loss: float
    n_tokens: int
    n_texts: int
    bos: bool

    def to_json(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        return asdict(self)


class PerplexityMeter:
    """Measures one text set under any number of edits of one block."""

    def __init__(self, model: LoadedModel, texts: Sequence[str], layer: int) -> None:
        """Runs the texts through the unedited model.

        Args:
            model: The loaded model.
            texts: Those longer than the model reads are cut into pieces it can.
            layer: The block to be edited.

        Raises:
            UserError: If no text has two tokens.
        """
        self.model, self.layer = model, layer
        self.upper = UpperBlocks(model, layer)
        rows: list[list[int]] = []
        owner: list[int] = []
        for i, text in enumerate(texts):
            ids = model.tokens(text).ids
            for piece in _pieces(ids, min(model.n_ctx, self.upper.longest_text), model.bos):
                rows.append(piece)
                owner.append(i)
        if not rows:
            raise UserError("the texts hold no two tokens in a row: there is nothing to predict")
        size = max(model.n_ctx, LARGEST_LOGITS // int(self.upper.vocabulary))
        self._batches: list[tuple[Recording, Tensor, tuple[Tensor, Tensor], Tensor]] = []
        for batch in batches(rows, model.device, batch_tokens=size):
            recording = _without_outputs(self.upper.record([rows[i] for i in batch.rows]))
            row, position = recording.mask[:, 1:].nonzero(as_tuple=True)
            target = recording.ids[:, 1:][row, position]
            of_text = torch.tensor([owner[i] for i in batch.rows], device=row.device)[row]
            self._batches.append((recording, target, (row, position), of_text))
        self._n_texts = len(texts)
        self.before = self._measure([])

    def after(self, factors: Sequence[Factors]) -> Perplexity:
        """Perplexity of the edited model.

        Args:
            factors: The rank-one changes of the block's output projection.

        Returns:
            The figures.
        """
        return self._measure(factors)

    @torch.no_grad()
    def rms_change(self, factors: Sequence[Factors]) -> float:
        """Root mean square, over the tokens, of the change of the MLP's output.

        Args:
            factors: The rank-one changes.

        Returns:
            Its size, in units of the MLP's output.
        """
        total, n = 0.0, 0
        for recording, *_ in self._batches:
            inside = recording.mask.bool()
            change = change_of_output(recording.keys[inside], factors)
            total += float(change.double().square().sum())
            n += int(inside.sum())
        return math.sqrt(total / n)

    @torch.no_grad()
    def _measure(self, factors: Sequence[Factors]) -> Perplexity:
        sums = torch.zeros(self._n_texts, dtype=torch.float64)
        counts = torch.zeros(self._n_texts, dtype=torch.float64)
        for recording, target, read, text in self._batches:
            logits = self.upper.edited_logits(recording, factors, read)
            loss = torch.nn.functional.cross_entropy(logits.float(), target, reduction="none")
            sums.index_add_(0, text.cpu(), loss.cpu().double())
            counts.index_add_(0, text.cpu(), torch.ones(len(loss), dtype=torch.float64))
        measured = counts > 0
        mean = float(sums.sum() / counts.sum())
        each = (sums[measured] / counts[measured]).exp()
        return Perplexity(
            token_weighted=float(torch.tensor(mean, dtype=torch.float64).exp()),
            text_mean=float(each.mean()),
            loss=mean,
            n_tokens=int(counts.sum()),
            n_texts=int(measured.sum()),
            bos=self.model.bos,
        )


def _without_outputs(recording: Recording) -> Recording:
    """Drops what only the optimisation of v* reads: the text set stays in memory."""
    return replace(recording, final=recording.final.new_empty(0))


def read_texts(path: str | os.PathLike[str]) -> list[str]:
    """Reads a text set.

    Args:
        path: ME-PPL's JSON (a list of objects with ``Text``), a JSON list of strings, JSON Lines
            with ``text`` or ``Text``, or plain text with blank lines between texts.

    Returns:
        The texts, in order.

    Raises:
        UserError: If it cannot be read or holds no text.
    """
    try:
        raw = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the texts {path}: {error}") from error
    try:
        if raw.lstrip()[:1] == "[":
            records = json.loads(raw)
        elif raw.lstrip()[:1] == "{":
            records = [json.loads(line) for line in raw.splitlines() if line.strip()]
        else:
            records = raw.split("\n\n")
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no valid JSON: {error}") from error
    texts = []
    for i, record in enumerate(records):
        text = record
        if isinstance(record, dict):
            text = record.get("Text", record.get("text"))
        if not isinstance(text, str):
            raise UserError(f"record {i} of {path} has no text: expected a field Text or text")
        if text.strip():
            texts.append(text)
    if not texts:
        raise UserError(f"{path} holds no text")
    return texts


def _pieces(ids: Int[Any, " n"] | list[int], longest: int, bos: bool) -> list[list[int]]:
    """Cuts a text where the model cannot read on; each piece begins as a text does."""
    front = ids[:1] if bos else []
    body = ids[1:] if bos else ids
    step = longest - len(front)
    pieces = [[*front, *body[i : i + step]] for i in range(0, len(body), step)]
    return [piece for piece in pieces if len(piece) > 1]
