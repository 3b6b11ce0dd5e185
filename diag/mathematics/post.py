"""What is left of a computed update: rules that hold it down before it is written.

They need the finished ΔW and the weights it is added to, so unlike the update itself they cannot
be foretold from keys alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

Matrix = Float[Tensor, "d_mlp d_model"]

# Both papers tune these by model and method; one value of each keeps results comparable.
RECT_SHARE = 0.4  # k: the share of entries that keep their change
PRUNE_BASE = 1.2  # α, the base of the logarithm


def rect(change: Matrix, weight: Matrix) -> Matrix:
    """RECT: keeps the entries with the largest relative change |ΔW/W|, and drops the others.

    Args:
        change: ΔW, float64.
        weight: W it is added to.

    Returns:
        ΔW with all but :data:`RECT_SHARE` of its entries zero (Gu et al. 2024, "Model
        Editing Harms General Abilities of Large Language Models").
    """
    relative = (change / weight.to(change)).abs().nan_to_num(0.0, posinf=torch.inf)
    n = max(1, round(RECT_SHARE * relative.numel()))
    kept = relative.flatten().topk(n, sorted=False).indices
    mask = torch.zeros_like(relative, dtype=torch.bool).flatten()
    mask[kept] = True
    return torch.where(mask.view_as(change), change, 0.0)


def prune(change: Matrix, weight: Matrix) -> Matrix:
    """PRUNE: condenses singular values of ΔW above the largest of W by a logarithm.

    Args:
        change: ΔW, float64.
        weight: W it is added to.

    Returns:
        ΔW with each σ above σ₁(W) replaced by log_α σ − log_α σ₁(W) + σ₁(W), and the others as they
        are (Ma et al. 2025, "Perturbation-Restrained Sequential Model Editing", the function F).
    """
    largest = torch.linalg.matrix_norm(weight.to(change), 2)
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    condensed = (values / largest).log() / torch.tensor(PRUNE_BASE).log().to(values) + largest
    return (left * torch.where(values > largest, condensed, values)) @ right


POST: Mapping[str, Callable[[Matrix, Matrix], Matrix]] = {"rect": rect, "prune": prune}
