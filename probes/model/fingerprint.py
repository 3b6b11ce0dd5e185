"""Which weights a measurement belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def fingerprint(
    state_dict: Mapping[str, torch.Tensor], *, rounded_to: torch.dtype | None = None
) -> str:
    """Identifies weights by name, shape and up to 1,024 evenly spaced values of each tensor.

    A second moment is only valid for the weights it was measured on. Every rank-one edit moves
    all rows of the matrix it touches, so a sample detects it; reading checkpoints of tens of
    gigabytes would cost more than the diagnosis. The type that values are stored in does not
    count, only the values.

    Args:
        state_dict: The Hugging Face model's parameters and buffers.
        rounded_to: A type to round values to first: what the fingerprint would be if the model
            were loaded in that type.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        tensor = state_dict[key]
        digest.update(f"{key}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().reshape(-1)
        if flat.numel() and flat.is_floating_point():
            step = max(1, flat.numel() // 1024)
            # An even step would look at the same columns of every row.
            step += 1 - step % 2
            values = flat[::step].cpu()
            values = values if rounded_to is None else values.to(rounded_to)
            digest.update(values.to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
