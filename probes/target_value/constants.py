"""What does not change while v* is optimised.

Nothing below the edited block depends on δ, nor does any position before the subject's last
token in any block. Both are computed here, once, for several edits side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes.edited.answers import target_tokens
from probes.edited.blocks_above import UpperBlocks
from probes.forward.above import Earlier
from probes.forward.sublayers import Sublayers
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import Request, request
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import TargetSite

# How the published code states the prompt whose prediction must not move.
KL_PROMPT = "{} is a"


@dataclass(frozen=True)
class LossText:
    """One text of one edit, and where the loss reads it."""

    ids: list[int]
    lookup: int
    positions: list[int]
    targets: list[int]


@dataclass(frozen=True)
class Suffixes:
    """Rows of text from the subject's last token on, which is position 0 here, unedited.

    Attributes:
        residual: The stream after the edited block.
        lengths: Positions of each row that are not padding.
        norm_input: See :class:`probes.forward.recording.Recording`, at position 0.
        ids: Tokens.
        mask: Additive, each row's own earlier positions first.
        position_ids: Positions in the text.
        past: Keys and values of earlier positions, for each block above, and room behind them for
            the row's own.
    """

    residual: Float[Tensor, "row position d_model"]
    lengths: Int[Tensor, " row"]
    norm_input: Float[Tensor, "row d_model"]
    ids: Int[Tensor, "row position"]
    mask: Float[Tensor, "row 1 position key_position"]
    position_ids: Int[Tensor, "row position"]
    past: dict[int, tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def earlier(self) -> int:
        """How many earlier positions there are, of the longest row."""
        return self.mask.shape[-1] - self.ids.shape[1]

    def __getitem__(self, rows: slice | Int[Tensor, " kept"]) -> Suffixes:
        """Some of the rows; a slice of them copies nothing."""
        return Suffixes(
            residual=self.residual[rows],
            lengths=self.lengths[rows],
            norm_input=self.norm_input[rows],
            ids=self.ids[rows],
            mask=self.mask[rows],
            position_ids=self.position_ids[rows],
            past={i: (k[rows], v[rows]) for i, (k, v) in self.past.items()},
        )


@dataclass(frozen=True)
class Reads:
    """Where the loss reads the logits, and what of them.

    Attributes:
        row: Row of the batch that each place is in, ``[n]``; those of :func:`prepare_loss` ascend.
        position: Its position within the row, 0 being the subject's last token, ``[n]``.
        target: The token whose log-probability is wanted there, ``[n]``.
        held: Rows whose prediction at position 0 must not move, ``[m]``; they ascend.
        initial: The unedited model's log-probabilities there, ``[m, vocabulary]``.
    """

    row: Int[Tensor, " n"]
    position: Int[Tensor, " n"]
    target: Int[Tensor, " n"]
    held: Int[Tensor, " m"]
    initial: Float[Tensor, "m vocabulary"]


@dataclass(frozen=True)
class Constants:
    """The constants of several edits' optimisation, rows of one edit side by side.

    ``rows`` texts belong to each edit, the last one being the KL prompt. Each edit has a δ at every
    site that one is added to, and ``initial`` is what it is added to in the bare prompt; ``weight``
    says how much each token counts that is read. ``in_stream`` says that the blocks above are read
    as a function of the residual stream's change rather than of the MLP output's; ``sublayers``
    gives that change where there are two δ.
    """

    rows: int
    suffixes: Suffixes
    reads: Reads
    weight: Float[Tensor, " n"]
    initial: Float[Tensor, "edit site d_model"]
    in_stream: bool = False
    sublayers: Sublayers | None = None

    @property
    def edits(self) -> int:
        """How many edits."""
        return self.initial.shape[0]

    def keep(self, edits: Int[Tensor, " kept"]) -> Constants:
        """The same for some of the edits only."""
        reads, device = self.reads, edits.device
        rows = (edits[:, None] * self.rows + torch.arange(self.rows, device=device)).flatten()
        new_row = torch.full((len(self.suffixes),), -1, device=device)
        new_row[rows] = torch.arange(len(rows), device=device)
        read = new_row[reads.row] >= 0
        return replace(
            self,
            suffixes=self.suffixes[rows],
            reads=Reads(
                row=new_row[reads.row[read]],
                position=reads.position[read],
                target=reads.target[read],
                held=new_row[reads.held[edits]],
                initial=reads.initial[edits],
            ),
            weight=self.weight[read],
            initial=self.initial[edits],
            sublayers=None if self.sublayers is None else self.sublayers.keep(rows),
        )


def rows_of(
    model: LoadedModel, edit: Request, prefixes: Sequence[str], limit: int
) -> list[LossText]:
    """The texts of one edit: every context followed by the new object, and the KL prompt.

    Args:
        model: Gives the tokenizer.
        edit: The edit.
        prefixes: Contexts 1…n.
        limit: Tokens the model reads.

    Returns:
        One row for each context, the bare prompt first and the KL prompt last.

    Raises:
        UserError: As :func:`probes.target_value.optimise.optimise`.
    """
    if edit.target_new is None:
        raise UserError(f"the edit of {edit.subject!r} has no target: give --target-new")
    rows = []
    for prefix in ["", *prefixes]:
        site = lookup(model, edit, prefix)
        prompt, target = target_tokens(model, prefix + edit.text, edit.target_new)
        ids = [*prompt, *target[:-1]]
        if ids[: site.index + 1] != site.ids:
            raise UserError(
                f"the subject {edit.subject!r} is tokenised differently before "
                f"{edit.target_new!r}: reword the prompt"
            )
        last = len(prompt) - 1
        rows.append(LossText(ids, site.index, list(range(last, last + len(target))), target))
    held = request(edit.subject, KL_PROMPT)
    site = lookup(model, held)
    rows.append(LossText(site.ids, site.index, [site.index], []))
    longest = max(len(row.ids) for row in rows)
    if longest > limit:
        raise UserError(
            f"the prompt of {edit.subject!r} has {longest} tokens with its longest prefix, but "
            f"{model.name} reads only {limit}"
        )
    return rows


@torch.no_grad()
def prepare_loss(
    upper: UpperBlocks,
    edits: Sequence[Sequence[LossText]],
    sites: Sequence[TargetSite] = ("value",),
) -> Constants:
    """Runs the unedited model once and keeps what every step needs.

    Args:
        upper: The model above the edited block.
        edits: Rows of :func:`rows_of`, as many for each edit.
        sites: Where a δ each is added.

    Returns:
        The constants.

    Raises:
        UserError: If the block has no such site.
    """
    flat = [row for rows in edits for row in rows]
    count, device = len(edits[0]), upper.device
    everyone = torch.arange(len(flat), device=device)
    first = everyone[::count]
    start = torch.tensor([row.lookup for row in flat], device=device)
    unedited = upper.record([row.ids for row in flat], before=start)
    lengths = torch.tensor([len(row.ids) for row in flat], device=device) - start
    index = start[:, None] + torch.arange(int(lengths.max()), device=device)
    position_ids = index.clamp(max=unedited.ids.shape[1] - 1)
    visible = Earlier.of(start, unedited.mask).own
    held = first + count - 1
    dtype = torch.promote_types(torch.float32, unedited.residual.dtype)
    final = unedited.final[held, start[held]]
    recorded = {"value": unedited.output, "resid_post": unedited.residual}
    initial = {site: activation[first, start[first]] for site, activation in recorded.items()}
    sublayers = None
    if "attention" in sites:
        sublayers = Sublayers.of(upper.plain, upper.layer, unedited.ids, start)
        initial["attention"] = sublayers.attended[first]
    suffixes = Suffixes(
        residual=unedited.residual[everyone[:, None], position_ids],
        lengths=lengths,
        norm_input=unedited.norm_input[everyone, start],
        ids=unedited.ids.gather(1, position_ids),
        mask=_mask(visible, position_ids.shape[1], unedited.residual.dtype),
        position_ids=position_ids,
        past=unedited.past,
    )
    *read, weight = _read(flat)
    row, position, target = (torch.tensor(each, device=device) for each in read)
    return Constants(
        rows=count,
        suffixes=suffixes,
        reads=Reads(
            row, position, target, held, torch.log_softmax(upper.head(final).to(dtype), dim=-1)
        ),
        weight=torch.tensor(weight, device=device, dtype=dtype),
        initial=torch.stack([initial[site] for site in sites], dim=1),
        in_stream=tuple(sites) != ("value",),
        sublayers=sublayers,
    )


def _read(
    texts: Sequence[LossText],
) -> tuple[list[int], list[int], list[int], list[float]]:
    """Row, position and token of every place that the loss reads, and how much it counts."""
    row, position, target, weight = [], [], [], []
    for i, text in enumerate(texts):
        for at, token in zip(text.positions, text.targets, strict=False):
            row.append(i)
            position.append(at - text.lookup)
            target.append(token)
            weight.append(1.0 / len(text.targets))
    return row, position, target, weight


def _mask(own: Bool[Tensor, "row earlier"], width: int, dtype: torch.dtype) -> Tensor:
    """Additive mask: each row sees its own earlier positions, then causally."""
    device = own.device
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    visible = torch.cat(
        [own[:, None].expand(-1, width, -1), causal.expand(len(own), -1, -1)], dim=2
    )
    zero = torch.zeros((), dtype=dtype, device=device)
    return torch.where(visible, zero, torch.finfo(dtype).min)[:, None]
