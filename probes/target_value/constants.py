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
class Constants:
    """The constants of several edits' optimisation, rows of one edit side by side.

    ``rows`` texts belong to each edit, the last one being the KL prompt. Everything starts at the
    subject's last token, position 0 here. Each edit has a δ at every site that one is added to, and
    ``initial`` is what it is added to in the bare prompt. ``in_stream`` says that the blocks above
    are read as a function of the residual stream's change rather than of the MLP output's;
    ``sublayers`` gives that change where there are two δ.
    """

    rows: int
    residual: Float[Tensor, "row position d_model"]
    lengths: Int[Tensor, " row"]
    norm_input: Float[Tensor, "row d_model"]
    ids: Int[Tensor, "row position"]
    mask: Float[Tensor, "row 1 position key_position"]
    position_ids: Int[Tensor, "row position"]
    past: dict[int, tuple[Tensor, Tensor]]
    read_row: Int[Tensor, " n"]
    read_position: Int[Tensor, " n"]
    target: Int[Tensor, " n"]
    weight: Float[Tensor, " n"]
    kl_initial: Float[Tensor, "edit vocabulary"]
    initial: Float[Tensor, "edit site d_model"]
    in_stream: bool = False
    sublayers: Sublayers | None = None

    @property
    def edits(self) -> int:
        """How many edits."""
        return self.initial.shape[0]

    def keep(self, edits: Int[Tensor, " kept"]) -> Constants:
        """The same for some of the edits only."""
        offsets = torch.arange(self.rows, device=edits.device)
        rows = (edits[:, None] * self.rows + offsets).flatten()
        new_row = torch.full((self.residual.shape[0],), -1, device=edits.device)
        new_row[rows] = torch.arange(len(rows), device=edits.device)
        read = new_row[self.read_row] >= 0
        return replace(
            self,
            residual=self.residual[rows],
            lengths=self.lengths[rows],
            norm_input=self.norm_input[rows],
            ids=self.ids[rows],
            mask=self.mask[rows],
            position_ids=self.position_ids[rows],
            past={i: (k[rows], v[rows]) for i, (k, v) in self.past.items()},
            read_row=new_row[self.read_row[read]],
            read_position=self.read_position[read],
            target=self.target[read],
            weight=self.weight[read],
            kl_initial=self.kl_initial[edits],
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
    unedited = upper.record([row.ids for row in flat], past=True)
    start = torch.tensor([row.lookup for row in flat], device=device)
    lengths = torch.tensor([len(row.ids) for row in flat], device=device) - start
    index = start[:, None] + torch.arange(int(lengths.max()), device=device)
    position_ids = index.clamp(max=unedited.ids.shape[1] - 1)
    past, visible = _before(start, unedited.past)
    held = first + count - 1
    dtype = torch.promote_types(torch.float32, unedited.residual.dtype)
    final = unedited.final[held, start[held]]
    recorded = {"value": unedited.output, "resid_post": unedited.residual}
    initial = {site: activation[first, start[first]] for site, activation in recorded.items()}
    sublayers = None
    if "attention" in sites:
        sublayers = Sublayers.of(upper.plain, upper.layer, unedited.ids, start)
        initial["attention"] = sublayers.attended[first]
    return Constants(
        rows=count,
        residual=unedited.residual[everyone[:, None], position_ids],
        lengths=lengths,
        norm_input=unedited.norm_input[everyone, start],
        ids=unedited.ids.gather(1, position_ids),
        mask=_mask(visible, position_ids.shape[1], unedited.residual.dtype),
        position_ids=position_ids,
        past=past,
        **_read(flat, device, dtype),
        kl_initial=torch.log_softmax(upper.head(final).to(dtype), dim=-1),
        initial=torch.stack([initial[site] for site in sites], dim=1),
        in_stream=tuple(sites) != ("value",),
        sublayers=sublayers,
    )


def _read(texts: Sequence[LossText], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Where the loss reads which token, and how much each counts."""
    read_row, read_position, target, weight = [], [], [], []
    for i, text in enumerate(texts):
        for position, token in zip(text.positions, text.targets, strict=False):
            read_row.append(i)
            read_position.append(position - text.lookup)
            target.append(token)
            weight.append(1.0 / len(text.targets))
    return {
        "read_row": torch.tensor(read_row, device=device),
        "read_position": torch.tensor(read_position, device=device),
        "target": torch.tensor(target, device=device),
        "weight": torch.tensor(weight, device=device, dtype=dtype),
    }


def _before(
    start: Int[Tensor, " row"], past: dict[int, tuple[Tensor, Tensor]]
) -> tuple[dict[int, tuple[Tensor, Tensor]], Bool[Tensor, "row earlier"]]:
    """Keys and values of what comes before each row's lookup token, and which of them are its own.

    They are aligned at their ends: some architectures take a key's place among the keys for its
    position.
    """
    earlier = int(start.max())
    position = torch.arange(earlier, device=start.device) - (earlier - start[:, None])
    index = position.clamp(min=0)[:, None, :, None]

    def aligned(tensor: Tensor) -> Tensor:
        return tensor.gather(2, index.expand(-1, tensor.shape[1], -1, tensor.shape[3]))

    return {i: (aligned(k), aligned(v)) for i, (k, v) in past.items()}, position >= 0


def _mask(own: Bool[Tensor, "row earlier"], width: int, dtype: torch.dtype) -> Tensor:
    """Additive mask: each row sees its own earlier positions, then causally."""
    device = own.device
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    visible = torch.cat(
        [own[:, None].expand(-1, width, -1), causal.expand(len(own), -1, -1)], dim=2
    )
    zero = torch.zeros((), dtype=dtype, device=device)
    return torch.where(visible, zero, torch.finfo(dtype).min)[:, None]
