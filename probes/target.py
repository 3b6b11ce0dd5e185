"""The target value v*: the MLP output that makes the model say the new object.

ROME's optimisation. A vector δ is added to the edited MLP's output at the subject's last token,
in every context at once, and Adam lowers the new object's negative log-likelihood over the
contexts, plus a Kullback–Leibler term that holds "{subject} is a" in place, plus weight decay.

Below the edited block nothing depends on δ, nor does any position before the subject's last token
in any block. Both are computed once; each step runs only the blocks above, from the subject's
last token on, and takes logits only where the loss reads them. Edits do not touch one another,
so many are optimised in one batch, each with its own state and its own stop.

Source: Meng et al. 2022, *Locating and Editing Factual Associations in GPT*, section 3.1 and its
published code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes import lean
from probes.answers import target_tokens
from probes.errors import UserError
from probes.hyperparameters import Hyperparameters
from probes.model import LoadedModel
from probes.subject import Request, lookup, request
from probes.upper import Recording, UpperBlocks

# How the published code states the prompt whose prediction must not move.
KL_PROMPT = "{} is a"
# Adam's, as in the published code (PyTorch's defaults).
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class TargetValue:
    """What an optimisation found.

    Attributes:
        request: The edit.
        initial: v_u, the MLP's output at the subject in the bare prompt, float64 on the CPU.
        delta: δ, which is added to it.
        steps: Steps taken.
        losses: The loss at each evaluation, one more than steps.
        probability: Mean over the contexts of the new object's probability (per token, geometric)
            at the last evaluation.
        clamp_saturated: Whether δ ended on the sphere it is projected into.
    """

    request: Request
    initial: Float[Tensor, " d_model"]
    delta: Float[Tensor, " d_model"]
    steps: int
    losses: tuple[float, ...]
    probability: float
    clamp_saturated: bool

    @property
    def value(self) -> Float[Tensor, " d_model"]:
        """v* = v_u + δ."""
        return self.initial + self.delta

    def __repr__(self) -> str:
        """The figures rather than the vectors."""
        return (
            f"TargetValue({self.request.subject!r} → {self.request.target_new!r}: "
            f"{self.steps} steps, loss {self.losses[-1]:.3f}, ‖δ‖ {self.delta.norm():.3g}, "
            f"‖v_u‖ {self.initial.norm():.3g}{', clamped' if self.clamp_saturated else ''})"
        )


@dataclass(frozen=True)
class _Row:
    """One text of one edit, and where the loss reads it."""

    ids: list[int]
    lookup: int
    positions: list[int]
    targets: list[int]


@dataclass(frozen=True)
class _Batch:
    """The constants of several edits' optimisation, rows of one edit side by side.

    ``rows`` texts belong to each edit, the last one being the KL prompt. Everything starts at the
    subject's last token, position 0 here.
    """

    rows: int
    residual: Float[Tensor, "row position d_model"]
    output: Float[Tensor, "row d_model"]
    ids: Int[Tensor, "row position"]
    mask: Float[Tensor, "row 1 position key_position"]
    position_ids: Int[Tensor, "row position"]
    past: dict[int, tuple[Tensor, Tensor]]
    read_row: Int[Tensor, " n"]
    read_position: Int[Tensor, " n"]
    target: Int[Tensor, " n"]
    weight: Float[Tensor, " n"]
    kl_initial: Float[Tensor, "edit vocabulary"]
    initial: Float[Tensor, "edit d_model"]

    @property
    def edits(self) -> int:
        return self.initial.shape[0]

    def keep(self, edits: Int[Tensor, " kept"]) -> _Batch:
        """The same for some of the edits only."""
        offsets = torch.arange(self.rows, device=edits.device)
        rows = (edits[:, None] * self.rows + offsets).flatten()
        new_row = torch.full((self.residual.shape[0],), -1, device=edits.device)
        new_row[rows] = torch.arange(len(rows), device=edits.device)
        read = new_row[self.read_row] >= 0
        return replace(
            self,
            residual=self.residual[rows],
            output=self.output[rows],
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
        )


def optimise(
    model: LoadedModel,
    requests: Sequence[Request],
    prefixes: Sequence[str],
    layer: int,
    hyperparameters: Hyperparameters | None = None,
    *,
    batch: int = 16,
) -> list[TargetValue]:
    """Finds the target value of each edit.

    Args:
        model: The loaded model, with float32 weights.
        requests: The edits, each with a new object.
        prefixes: Contexts 1…n; context 0, the bare prompt, is always among them.
        layer: The edited block.
        hyperparameters: ROME's, if not given.
        batch: Edits optimised together; memory grows with it.

    Returns:
        One target value per edit, in their order.

    Raises:
        UserError: If an edit has no new object, the subject cannot be looked up, or a text is
            longer than the model can read.
    """
    chosen = hyperparameters or Hyperparameters()
    upper = UpperBlocks(model, layer)
    texts = [_rows(model, edit, prefixes, upper.longest_text) for edit in requests]
    # Edits whose texts go on equally long behind the subject waste no padding on one another.
    order = sorted(
        range(len(requests)), key=lambda i: max(len(row.ids) - row.lookup for row in texts[i])
    )
    found: dict[int, TargetValue] = {}
    for start in range(0, len(order), batch):
        chunk = order[start : start + batch]
        constants = _prepare(upper, [texts[i] for i in chunk])
        results = _descend(upper, constants, chosen, [requests[i] for i in chunk])
        found.update(zip(chunk, results, strict=True))
    return [found[i] for i in range(len(requests))]


def _rows(model: LoadedModel, edit: Request, prefixes: Sequence[str], limit: int) -> list[_Row]:
    if edit.target_new is None:
        raise UserError(f"the edit of {edit.subject!r} has no target: give --target-new")
    rows = []
    for prefix in ["", *prefixes]:
        site = lookup(model, edit, prefix)
        prompt, target = target_tokens(model, prefix + edit.text, edit.target_new)
        ids = [*prompt, *target[:-1]]
        if ids[: site.index + 1] != site.ids:
            raise UserError(
                f"the subject {edit.subject!r} is tokenised differently in front of "
                f"{edit.target_new!r}: reword the prompt"
            )
        last = len(prompt) - 1
        rows.append(_Row(ids, site.index, list(range(last, last + len(target))), target))
    held = request(edit.subject, KL_PROMPT)
    site = lookup(model, held)
    rows.append(_Row(site.ids, site.index, [site.index], []))
    longest = max(len(row.ids) for row in rows)
    if longest > limit:
        raise UserError(
            f"the prompt of {edit.subject!r} has {longest} tokens with its longest prefix, but "
            f"{model.name} reads only {limit}"
        )
    return rows


@torch.no_grad()
def _prepare(upper: UpperBlocks, edits: Sequence[Sequence[_Row]]) -> _Batch:
    """Runs the unedited model once and keeps what every step needs."""
    flat = [row for rows in edits for row in rows]
    recording: Recording = upper.record([row.ids for row in flat], past=True)
    device = recording.ids.device
    n = len(flat)
    everyone = torch.arange(n, device=device)
    start = torch.tensor([row.lookup for row in flat], device=device)
    width = max(len(row.ids) - row.lookup for row in flat)
    earlier = int(start.max())
    index = start[:, None] + torch.arange(width, device=device)
    position_ids = index.clamp(max=recording.ids.shape[1] - 1)
    read_row, read_position, target, weight = [], [], [], []
    for i, row in enumerate(flat):
        for position, token in zip(row.positions, row.targets, strict=False):
            read_row.append(i)
            read_position.append(position - row.lookup)
            target.append(token)
            weight.append(1.0 / len(row.targets))
    count = len(edits[0])
    first = torch.arange(0, n, count, device=device)
    held = first + count - 1
    kl_logits = upper.head(recording.final[held, start[held]])
    output = recording.output[everyone, start]
    return _Batch(
        rows=count,
        residual=recording.residual[everyone[:, None], position_ids],
        output=output,
        ids=recording.ids[everyone[:, None], position_ids],
        mask=_mask(start, earlier, width, recording.residual.dtype),
        position_ids=position_ids,
        past={
            i: (keys[:, :, :earlier].clone(), values[:, :, :earlier].clone())
            for i, (keys, values) in recording.past.items()
        },
        read_row=torch.tensor(read_row, device=device),
        read_position=torch.tensor(read_position, device=device),
        target=torch.tensor(target, device=device),
        weight=torch.tensor(weight, device=device),
        kl_initial=torch.log_softmax(kl_logits.float(), dim=-1),
        initial=output[first],
    )


def _mask(start: Tensor, earlier: int, width: int, dtype: torch.dtype) -> Tensor:
    """Additive mask: each row sees its own earlier positions, then causally."""
    device = start.device
    own = torch.arange(earlier, device=device) < start[:, None]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    visible = torch.cat(
        [own[:, None].expand(-1, width, -1), causal.expand(len(start), -1, -1)], dim=2
    )
    zero = torch.zeros((), dtype=dtype, device=device)
    return torch.where(visible, zero, torch.finfo(dtype).min)[:, None]


def _descend(
    upper: UpperBlocks,
    constants: _Batch,
    chosen: Hyperparameters,
    requests: Sequence[Request],
) -> list[TargetValue]:
    """Adam on every edit's δ, edits that reached their stop taken out on the way."""
    batch = constants
    logits_of = _evaluator(upper, batch)
    device = batch.residual.device
    active = torch.arange(batch.edits, device=device)
    final = torch.zeros(batch.initial.shape, device=device)
    losses: list[list[float]] = [[] for _ in requests]
    probabilities = [0.0 for _ in requests]
    delta = torch.zeros(batch.initial.shape, device=device)
    mean, square = torch.zeros_like(delta), torch.zeros_like(delta)
    longest = chosen.clamp_norm_factor * constants.initial.float().norm(dim=-1)
    for evaluation in range(1, chosen.evaluations + 1):
        delta.requires_grad_(True)
        with torch.enable_grad():
            loss, probability = _loss(upper, logits_of, batch, chosen, delta)
        values = loss.tolist()
        for i, edit in enumerate(active.tolist()):
            losses[edit].append(values[i])
            probabilities[edit] = float(probability[i])
        if evaluation == chosen.evaluations:
            break
        running = [i for i, value in enumerate(values) if not value < chosen.stop_below]
        if not running:
            break
        (gradient,) = torch.autograd.grad(loss.sum(), delta)
        delta = delta.detach()
        if len(running) < len(values):
            keep = torch.tensor(running, device=device)
            final[active] = delta
            active, delta, gradient = active[keep], delta[keep], gradient[keep]
            mean, square, batch = mean[keep], square[keep], batch.keep(keep)
            logits_of = _evaluator(upper, batch)
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = square.sqrt().div_((1 - BETA2**evaluation) ** 0.5).add_(EPSILON)
        delta.addcdiv_(mean, spread, value=-chosen.learning_rate / (1 - BETA1**evaluation))
        norm = delta.norm(dim=-1)
        limit = longest[active]
        beyond = norm > limit
        delta[beyond] = delta[beyond] * limit[beyond, None] / norm[beyond, None]
    final[active] = delta.detach()
    saturated = (final.norm(dim=-1) >= longest * (1 - 1e-5)).tolist()
    return [
        TargetValue(
            request=edit,
            initial=constants.initial[i].to("cpu", torch.float64),
            delta=final[i].to("cpu", torch.float64),
            steps=len(losses[i]) - 1,
            losses=tuple(losses[i]),
            probability=probabilities[i],
            clamp_saturated=bool(saturated[i]),
        )
        for i, edit in enumerate(requests)
    ]


def _evaluator(upper: UpperBlocks, batch: _Batch) -> Callable[[Tensor], Tensor]:
    """How the logits that the loss reads follow from the residual stream at the subject."""
    rows = len(batch.residual)
    held = torch.arange(batch.rows - 1, rows, batch.rows, device=batch.residual.device)
    read = (
        torch.cat([batch.read_row, held]),
        torch.cat([batch.read_position, torch.zeros_like(held)]),
    )
    if lean.applies(upper.plain, upper.layer):
        return lean.LeanBlocks(
            upper.plain,
            upper.layer,
            residual=batch.residual,
            mask=batch.mask,
            past=batch.past,
            read=read,
        ).logits

    def logits(at_subject: Tensor) -> Tensor:
        return upper.logits(
            torch.cat([at_subject[:, None], batch.residual[:, 1:]], dim=1),
            batch.ids,
            batch.mask,
            read,
            position_ids=batch.position_ids,
            past=batch.past,
        )

    return logits


def _loss(
    upper: UpperBlocks,
    logits_of: Callable[[Tensor], Tensor],
    batch: _Batch,
    chosen: Hyperparameters,
    delta: Tensor,
) -> tuple[Float[Tensor, " edit"], Float[Tensor, " edit"]]:
    """Each edit's loss, and its new object's mean probability."""
    change = delta.repeat_interleave(batch.rows, dim=0).to(batch.residual.dtype)
    at_subject = upper.edited_residual(batch.residual[:, 0], batch.output, change)
    logits = logits_of(at_subject).float()
    log_probs = torch.log_softmax(logits, dim=-1)
    n = len(batch.target)
    each = log_probs[:n].gather(1, batch.target[:, None])[:, 0] * batch.weight
    per_row = torch.zeros(len(change), device=delta.device).index_add(0, batch.read_row, -each)
    nll = per_row.view(batch.edits, batch.rows)[:, :-1]
    kl = (log_probs[n:].exp() * (log_probs[n:] - batch.kl_initial)).sum(-1)
    # The norm's gradient at δ = 0 is taken as zero, as PyTorch does.
    decay = delta.norm(dim=-1) / batch.initial.float().norm(dim=-1) ** 2
    loss = nll.mean(1) + chosen.kl_factor * kl + chosen.weight_decay * decay
    return loss, torch.exp(-nll.detach()).mean(1)
