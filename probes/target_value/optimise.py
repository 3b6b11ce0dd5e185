"""The target value v*: the MLP output that makes the model say the new object.

ROME's optimisation. A vector δ is added to the edited MLP's output at the subject's last token,
in every context at once, and Adam lowers the new object's negative log-likelihood over the
contexts, plus a Kullback–Leibler term that holds "{subject} is a" in place, plus weight decay.

Below the edited block nothing depends on δ, nor does any position before the subject's last token
in any block. Both are computed once; each step runs only the blocks above, from the subject's
last token on, and takes logits only where the loss reads them. Contexts that are the same text
are one row that counts as many. Edits do not touch one another, so many are optimised in one
batch, each with its own state and its own stop.

MEMIT's z is the same optimisation with δ in the residual stream after its last edited block. PMET
adds one δ to the attention's output and one to the MLP's, and writes the MLP's alone; where the new
object leads, its likelihood counts less at the next step, and the optimisation stops once the
Kullback–Leibler term is small. ENCORE leaves z where the new object has been the most probable for
some evaluations (most-probable early stopping): what comes after makes it more probable than any
fact the model was trained on.

Sources: Meng et al. 2022, *Locating and Editing Factual Associations in GPT*, section 3.1 and its
published code; Meng et al. 2023, *Mass-Editing Memory in a Transformer*, section 4.2; Li et al.
2024, *PMET: Precise Model Editing in a Transformer*, and its published code; Gupta et al. 2025,
*Lifelong Knowledge Editing requires Better Regularization*, and its published code.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from probes import memory
from probes.edited.blocks_above import UpperBlocks
from probes.edited.weights import writable
from probes.forward.engine import engine_for
from probes.forward.gpt2.engine import GPT2
from probes.model.loaded import LoadedModel
from probes.request.request import Request
from probes.target_value.constants import Constants, Reads, Suffixes, prepare_loss, rows_of
from probes.target_value.gpt2_gradient import LeanBlocks, applies
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.pieces import Pieces, most_rows
from probes.target_value.reader import General, Reader
from probes.target_value.replayed import Replayed
from rome_diagnosis.methods import TargetSite

# Adam's, as in the published code (PyTorch's defaults).
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
# Edits that a CPU takes together: the rows of more of them fall out of its caches.
AT_ONCE = 4


@dataclass(frozen=True)
class TargetValue:
    """The result of one optimisation.

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


def optimise(
    model: LoadedModel,
    requests: Sequence[Request],
    prefixes: Sequence[str],
    layer: int,
    hyperparameters: Hyperparameters | None = None,
    *,
    batch: int = 16,
    sites: Sequence[TargetSite] = ("value",),
) -> list[TargetValue]:
    """Finds the target value of each edit.

    Args:
        model: The loaded model, with float32 weights.
        requests: The edits, each with a new object.
        prefixes: Contexts 1…n; context 0, the bare prompt, is always among them.
        layer: The edited block.
        hyperparameters: ROME's, if not given.
        batch: Most edits that are optimised together; memory grows with it.
        sites: Where a δ each is added, the target's own last: the MLP's output for v*, the residual
            stream after the block for MEMIT's z, the outputs of attention and MLP for PMET's.

    Returns:
        One target value per edit, in their order.

    Raises:
        UserError: If an edit has no new object, the subject cannot be looked up, a text is
            longer than the model can read, the block has no such site, or the weights are of a
            type that rounds edits away.
    """
    chosen, model = hyperparameters or Hyperparameters(), model.exact()
    writable(model, layer)  # a value that cannot be written is not worth the optimisation
    upper = UpperBlocks(model, layer)
    fast = isinstance(engine_for(model), GPT2) and applies(upper.plain, layer)
    distinct = Counter(prefixes)
    share = torch.tensor([1.0, *map(float, distinct.values())]) / (1 + len(prefixes))
    share = share.to(upper.device)
    texts = [rows_of(model, edit, [*distinct], upper.longest_text) for edit in requests]
    # Edits whose texts continue equally far after the subject waste no padding on one another.
    order = sorted(
        range(len(requests)), key=lambda i: max(len(row.ids) - row.lookup for row in texts[i])
    )
    values: dict[int, TargetValue] = {}

    def descend(chunk: Sequence[int]) -> None:
        # In a function: what the last evaluation kept for a gradient goes when it returns.
        constants = prepare_loss(upper, [texts[i] for i in chunk], sites)
        objective = _Objective(upper, constants, chosen, share, fast=fast)
        results = _descend(objective, [requests[i] for i in chunk])
        values.update(zip(chunk, results, strict=True))

    size = min(batch, AT_ONCE) if upper.device.type == "cpu" else batch
    memory.give_back()  # that of gradients is most of what is needed
    for start in range(0, len(order), size):
        descend(order[start : start + size])
        memory.give_back()
    return [values[i] for i in range(len(requests))]


def _descend(objective: _Objective, requests: Sequence[Request]) -> list[TargetValue]:
    """Adam on every edit's δ; edits that reach their stop are taken out on the way."""
    constants, chosen = objective.batch, objective.chosen
    batch = constants
    device = batch.weight.device
    active = torch.arange(batch.edits, device=device)
    final = torch.zeros(batch.initial.shape, device=device, dtype=batch.weight.dtype)
    losses: list[list[float]] = [[] for _ in requests]
    probabilities = [0.0 for _ in requests]
    delta = torch.zeros_like(final)
    mean, square = torch.zeros_like(delta), torch.zeros_like(delta)
    lead = _Lead(chosen, delta[:, 0, 0])
    longest = chosen.clamp_norm_factor * constants.initial.to(final).norm(dim=-1)
    for evaluation in range(1, chosen.evaluations + 1):
        loss, probability, moved = objective.evaluate(delta, lead.factor)
        values = loss.tolist()
        for edit, value, likely in zip(active.tolist(), values, probability.tolist(), strict=True):
            losses[edit].append(value)
            probabilities[edit] = likely
        if evaluation == chosen.evaluations:
            break
        stop = lead.follow(objective, moved) | (loss < chosen.stop_below)
        running = (~stop).nonzero()[:, 0]
        if not len(running):
            break
        gradient = objective.gradient(delta)
        if len(running) < len(values):
            final[active] = delta
            active, delta, gradient, mean, square = (
                x[running] for x in (active, delta, gradient, mean, square)
            )
            objective, lead = objective.keep(running), lead.keep(running)
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = square.sqrt().div_((1 - BETA2**evaluation) ** 0.5).add_(EPSILON)
        delta.addcdiv_(mean, spread, value=-chosen.learning_rate / (1 - BETA1**evaluation))
        norm = delta.norm(dim=-1)
        limit = longest[active]
        beyond = norm > limit
        delta[beyond] = delta[beyond] * limit[beyond, None] / norm[beyond, None]
    final[active] = delta
    saturated = (final.norm(dim=-1) >= longest * (1 - 1e-5))[:, -1].tolist()
    return [
        TargetValue(
            request=edit,
            initial=constants.initial[i, -1].to("cpu", torch.float64),
            delta=final[i, -1].to("cpu", torch.float64),
            steps=len(losses[i]) - 1,
            losses=tuple(losses[i]),
            probability=probabilities[i],
            clamp_saturated=bool(saturated[i]),
        )
        for i, edit in enumerate(requests)
    ]


class _Lead:
    """What follows from the new object's lead: a stop, and the factor of its likelihood."""

    def __init__(self, chosen: Hyperparameters, like: Float[Tensor, " edit"]) -> None:
        self._chosen = chosen
        self.factor = torch.full_like(like, chosen.nll_factor)
        self._times = torch.zeros_like(like)

    def follow(self, objective: _Objective, moved: Float[Tensor, " edit"]) -> Bool[Tensor, " edit"]:
        """Which edits stop at what was evaluated last; ``factor`` becomes the next evaluation's."""
        chosen, stop = self._chosen, torch.zeros_like(moved, dtype=torch.bool)
        if chosen.most_probable:
            self._times = self._times + objective.leads()
            stop = self._times >= chosen.most_probable
        if chosen.follows_lead:
            leads = objective.leads(bare=True)
            stop = stop | (leads & (moved <= (chosen.leading_kl or -math.inf)))
            share = torch.ones_like(self.factor).masked_fill(leads, chosen.leading_nll)
            self.factor = chosen.nll_factor * share
        return stop

    def keep(self, edits: Int[Tensor, " kept"]) -> _Lead:
        """The same for some of the edits only."""
        kept = _Lead(self._chosen, self.factor[edits])
        kept.factor, kept._times = self.factor[edits], self._times[edits]
        return kept


class _Objective:
    """Each edit's loss: linear in what is read of the model, plus the decay of δ."""

    def __init__(
        self,
        upper: UpperBlocks,
        batch: Constants,
        chosen: Hyperparameters,
        share: Float[Tensor, " context"],
        *,
        fast: bool,
    ) -> None:
        self.batch, self.chosen = batch, chosen
        share = share.to(batch.weight)
        self._upper, self._share, self._fast = upper, share, fast
        self._pieces = _pieces(upper, batch, chosen, fast=fast)
        initial = batch.initial.to(batch.weight)
        self._per_norm = chosen.weight_decay / initial.norm(dim=-1) ** 2
        contexts = torch.cat([share, torch.zeros_like(share[:1])])  # the KL prompt's row is none
        self._of_log_probs = -batch.weight * contexts[batch.reads.row % batch.rows]
        self._of_moved = torch.full_like(self._per_norm[:, 0], chosen.kl_factor)

    def keep(self, edits: Int[Tensor, " kept"]) -> _Objective:
        """The same for some of the edits only."""
        batch = self.batch.keep(edits)
        return _Objective(self._upper, batch, self.chosen, self._share, fast=self._fast)

    def evaluate(
        self, delta: Float[Tensor, "edit site d_model"], factor: Float[Tensor, " edit"]
    ) -> tuple[Float[Tensor, " edit"], Float[Tensor, " edit"], Float[Tensor, " edit"]]:
        """Each edit's loss, its new object's mean probability, and its Kullback–Leibler term."""
        batch = self.batch
        change = delta.repeat_interleave(batch.rows, dim=0).to(batch.suffixes.residual.dtype)
        if batch.sublayers is None:
            change = change[:, 0]
        else:
            with torch.enable_grad():
                self._at_sites = change.requires_grad_(True)
                self._of_sites = batch.sublayers.moved(change)
            change = self._of_sites.detach()
        of_log_probs = self._of_log_probs * factor[batch.reads.row // batch.rows]
        log_probs, moved = self._pieces.read(change, of_log_probs, self._of_moved)
        nll = delta.new_zeros(len(change))
        # Not index_add_, whose order of summation a GPU leaves to chance.
        nll.index_put_((batch.reads.row,), -log_probs * batch.weight, accumulate=True)
        nll = nll.view(batch.edits, batch.rows)[:, :-1]
        moved = self._of_moved * moved
        decay = (self._per_norm * delta.norm(dim=-1)).sum(1)
        return factor * (nll @ self._share) + moved + decay, torch.exp(-nll) @ self._share, moved

    def leads(self, *, bare: bool = False) -> Bool[Tensor, " edit"]:
        """Whether every token of the new object is the most probable in all prefixed contexts.

        At what was evaluated last. The bare prompt is left out, as ENCORE's code does, but for
        ``bare``; where it is the only context, it is asked.
        """
        batch = self.batch
        row = batch.reads.row
        behind = ~self._pieces.leads() & ((row % batch.rows > 0) | (batch.rows == 2) | bare)
        return torch.bincount(row[behind] // batch.rows, minlength=batch.edits) == 0

    def gradient(
        self, delta: Float[Tensor, "edit site d_model"]
    ) -> Float[Tensor, "edit site d_model"]:
        """The gradient of what was evaluated last, at the same δ."""
        batch = self.batch
        change = self._pieces.gradient()
        if batch.sublayers is not None:
            (change,) = torch.autograd.grad(self._of_sites, self._at_sites, change)
        total = change.view(batch.edits, batch.rows, *delta.shape[1:]).sum(1, dtype=delta.dtype)
        # The norm's gradient at δ = 0 is taken as zero, as PyTorch does.
        norm = delta.norm(dim=-1)
        decay = torch.where(norm > 0, self._per_norm / norm, 0.0)
        return total.addcmul_(delta, decay[..., None])


def _pieces(upper: UpperBlocks, batch: Constants, chosen: Hyperparameters, *, fast: bool) -> Pieces:
    """The rows' readers."""
    kept = (LeanBlocks if fast else General).kept(upper.model, upper.layer)
    most = most_rows(upper.model, batch.suffixes.ids.shape[1], kept)
    replays = upper.device.type == "cuda" and most >= len(batch.suffixes)

    def make(suffixes: Suffixes, reads: Reads) -> Reader:
        piece: Reader
        if fast:
            piece = LeanBlocks(upper.plain, upper.layer, suffixes, reads)
        else:
            piece = General(upper, suffixes, reads, in_stream=batch.in_stream)
        return Replayed(piece, upper.plain.model) if replays else piece

    asked = chosen.most_probable or chosen.follows_lead
    return Pieces(make, batch.suffixes, batch.reads, most=most, asked_for_leads=bool(asked))
