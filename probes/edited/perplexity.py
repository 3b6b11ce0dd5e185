"""Perplexity of a text set, before an edit and after many.

An edit changes nothing below its own block. The texts run through the complete model once; what
the edit adds to the residual stream follows from the recorded keys, and only the blocks above run
again for each edit.

Texts are measured a portion at a time, and no more of them than a question needs: an edit that
destroys the model shows it on the first thousand tokens. The interval of a ratio comes from the
paired differences of the texts' losses.

Two averages are in use and both are given: the token-weighted one, exp of the mean loss over all
tokens, on which criteria rest, and the mean over texts of each text's own perplexity, which the
ME-PPL papers report and which a few short texts can dominate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import scipy.stats
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from probes import memory
from probes.edited.blocks_above import UpperBlocks
from probes.edited.weights import Change, change_of_output
from probes.forward.batches import batches
from probes.forward.recording import Waiting
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError

PORTION = 1024  # tokens measured before asking again whether they suffice
FEWEST_TEXTS = 5  # with fewer texts their spread is not known


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a text set.

    Attributes:
        token_weighted: exp of the mean loss over all predicted tokens.
        text_mean: Mean over the texts of each one's perplexity.
        loss: Mean loss over all predicted tokens, in nats.
        n_tokens: Predicted tokens: all but each row's first.
        n_texts: Texts with at least one predicted token.
        bos: Whether a begin-of-sequence token stood before every row.
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


@dataclass(frozen=True)
class PerplexityChange:
    """Perplexity of the same texts before and after an edit.

    Attributes:
        before: Perplexity under the unedited model.
        after: Perplexity under the edited model.
        interval: 95% interval of the token-weighted ratio over the draw of the texts; ``None``
            with fewer than :data:`FEWEST_TEXTS` texts or losses that are not finite.
    """

    before: Perplexity
    after: Perplexity
    interval: tuple[float, float] | None

    @property
    def ratio(self) -> float:
        """Token-weighted perplexity after the edit over that before it."""
        return self.after.token_weighted / self.before.token_weighted


@dataclass(frozen=True)
class _Losses:
    """Summed losses and numbers of predicted tokens of each text."""

    sums: Float[Tensor, " text"]
    counts: Float[Tensor, " text"]

    def __add__(self, other: _Losses) -> _Losses:
        return _Losses(self.sums + other.sums, self.counts + other.counts)


@dataclass(frozen=True)
class _Batch:
    """Some rows of the text set, as the unedited model left them."""

    recording: Waiting
    target: Int[Tensor, " n"]
    read: tuple[Int[Tensor, " n"], Int[Tensor, " n"]]
    text: Int[Tensor, " n"]


@dataclass(frozen=True)
class _Portion:
    """A portion of the text set and what the unedited model loses on it."""

    batches: tuple[_Batch, ...]
    before: _Losses


class PerplexityMeter:
    """Measures one text set under any number of edits of one block."""

    def __init__(self, model: LoadedModel, texts: Sequence[str], layer: int) -> None:
        """Tokenises the texts; they run through the model when they are first needed.

        Args:
            model: The loaded model.
            texts: Those longer than the model reads are cut into pieces it can.
            layer: The block to be edited.

        Raises:
            UserError: If no text has two tokens.
        """
        self.model, self.layer = model, layer
        self.upper = UpperBlocks(model, layer)
        self._n_texts = len(texts)
        self._rows: list[tuple[int, list[int]]] = []
        for i, text in enumerate(texts):
            ids = model.tokens(text).ids
            for piece in _pieces(ids, min(model.n_ctx, self.upper.longest_text), model.bos):
                self._rows.append((i, piece))
        if not self._rows:
            raise UserError("the texts hold no two tokens in a row: there is nothing to predict")
        self._bounds = _portions(self._rows)
        self._portions: list[_Portion] = []

    @property
    def before(self) -> Perplexity:
        """Perplexity of the unedited model over all texts."""
        return self.compare([]).before

    def after(self, factors: Sequence[Change]) -> Perplexity:
        """Perplexity of the edited model over all texts.

        Args:
            factors: The rank-one changes of the block's output projection.

        Returns:
            The figures.
        """
        return self.compare(factors).after

    def compare(
        self,
        factors: Sequence[Change],
        *,
        settled: Callable[[PerplexityChange], bool] = lambda comparison: False,
    ) -> PerplexityChange:
        """Measures the same texts before and after an edit, as many of them as are needed.

        Args:
            factors: The rank-one changes of the block's output projection; none compare the
                unedited model with itself.
            settled: Asked after each portion whether what is known so far suffices; by default
                all texts are measured.

        Returns:
            The comparison over the texts that were measured.
        """
        before = after = self._nothing()
        for i in range(len(self._bounds)):
            portion = self._portion(i)
            before = before + portion.before
            after = after + (self._edited(portion.batches, factors) if factors else portion.before)
            memory.give_back()
            comparison = PerplexityChange(
                self._perplexity(before), self._perplexity(after), _interval(before, after)
            )
            if settled(comparison):
                break
        return comparison

    @torch.no_grad()
    def rms_change(self, factors: Sequence[Change], n_tokens: int | None = None) -> float:
        """Root mean square, over the tokens of the texts, of the change of the MLP's output.

        Args:
            factors: The rank-one changes.
            n_tokens: Use the portions that hold the first N predicted tokens, as
                :meth:`compare` reports them; all texts by default.

        Returns:
            Its size, in units of the MLP's output.
        """
        total, n, predicted = 0.0, 0, 0.0
        for i in range(len(self._bounds)):
            portion = self._portion(i)
            for batch in portion.batches:
                recording = batch.recording.taken()
                inside = recording.mask.bool()
                change = change_of_output(recording.keys[inside], factors)
                total += float(change.double().square().sum())
                n += int(inside.sum())
            predicted += float(portion.before.counts.sum())
            if n_tokens is not None and predicted >= n_tokens:
                break
        return math.sqrt(total / n)

    def _portion(self, i: int) -> _Portion:
        """Runs a portion through the unedited model, or takes what an earlier edit ran."""
        while len(self._portions) <= i:
            start, stop = self._bounds[len(self._portions)]
            rows, kept, before = self._rows[start:stop], [], self._nothing()
            for batch in batches([ids for _, ids in rows], self.model):
                recorded, final = self._record([rows[i] for i in batch.rows])
                before = before + self._losses(recorded, final)
                kept.append(recorded)
            self._portions.append(_Portion(tuple(kept), before))
            memory.give_back()
        return self._portions[i]

    def _record(
        self, rows: Sequence[tuple[int, list[int]]]
    ) -> tuple[_Batch, Float[Tensor, "n d_embedding"]]:
        """Runs some rows, and what enters the unembedding where a token is predicted."""
        recording = self.upper.record([ids for _, ids in rows])
        row, position = recording.mask[:, 1:].nonzero(as_tuple=True)
        target = recording.ids[:, 1:][row, position]
        owner = torch.tensor([text for text, _ in rows], device=row.device)[row]
        laid = self.upper.for_edits(recording)
        return _Batch(laid, target, (row, position), owner), recording.final[row, position]

    @torch.no_grad()
    def _edited(self, some: Sequence[_Batch], factors: Sequence[Change]) -> _Losses:
        """Losses after an edit."""
        losses = self._nothing()
        for batch in some:
            final = self.upper.edited_final(batch.recording.taken(), factors, batch.read)
            losses = losses + self._losses(batch, final)
        return losses

    @torch.no_grad()
    def _losses(self, batch: _Batch, final: Float[Tensor, "n d_embedding"]) -> _Losses:
        """The losses of what enters the unembedding."""
        losses = self._nothing()
        for rows, logits in self.upper.heads(final):
            loss = cross_entropy(logits.float(), batch.target[rows], reduction="none")
            losses.sums.index_add_(0, batch.text[rows].cpu(), loss.cpu().double())
            del logits  # before the next ones are made
        losses.counts.index_add_(0, batch.text.cpu(), torch.ones(len(final), dtype=torch.float64))
        return losses

    def _nothing(self) -> _Losses:
        return _Losses(*torch.zeros(2, self._n_texts, dtype=torch.float64))

    def _perplexity(self, losses: _Losses) -> Perplexity:
        measured = losses.counts > 0
        mean = float(losses.sums.sum() / losses.counts.sum())
        each = (losses.sums[measured] / losses.counts[measured]).exp()
        return Perplexity(
            token_weighted=float(torch.tensor(mean, dtype=torch.float64).exp()),
            text_mean=float(each.mean()),
            loss=mean,
            n_tokens=int(losses.counts.sum()),
            n_texts=int(measured.sum()),
            bos=self.model.bos,
        )


def _portions(rows: Sequence[tuple[int, list[int]]]) -> list[tuple[int, int]]:
    """Cuts rows, in the order of the texts, into portions of about :data:`PORTION` tokens."""
    bounds, start, n_tokens = [], 0, 0
    for stop, (text, ids) in enumerate(rows, 1):
        n_tokens += len(ids)
        last_of_text = stop == len(rows) or rows[stop][0] != text
        if last_of_text and (n_tokens >= PORTION or stop == len(rows)):
            bounds.append((start, stop))
            start, n_tokens = stop, 0
    return bounds


def _interval(before: _Losses, after: _Losses) -> tuple[float, float] | None:
    """95% interval of the ratio of two perplexities over the draw of the texts.

    The log of the ratio is Σ dᵢ / Σ nᵢ, with dᵢ the difference of text i's losses and nᵢ its
    tokens: a ratio estimator, whose variance is that of dᵢ − θnᵢ (Cochran 1977, section 2.11).
    """
    measured = before.counts > 0
    n = before.counts[measured]
    m = len(n)
    if m < FEWEST_TEXTS:
        return None
    difference = (after.sums - before.sums)[measured]
    theta = difference.sum() / n.sum()
    residual = difference - theta * n
    error = (m / (m - 1) * residual.square().sum()).sqrt() / n.sum()
    reach = float(scipy.stats.t.ppf(0.975, m - 1)) * error
    low, high = float((theta - reach).exp()), float((theta + reach).exp())
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _pieces(ids: Int[Any, " n"] | list[int], longest: int, bos: bool) -> list[list[int]]:
    """Cuts a text where the model cannot read on; each piece begins as a text does."""
    front = ids[:1] if bos else []
    body = ids[1:] if bos else ids
    step = longest - len(front)
    pieces = [[*front, *body[i : i + step]] for i in range(0, len(body), step)]
    return [piece for piece in pieces if len(piece) > 1]
