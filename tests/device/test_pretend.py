"""The pretended device refuses what a GPU refuses, and computes what the CPU does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.device.pretend import IS_THERE, pretend_device

pytestmark = pytest.mark.skipif(not IS_THERE, reason="there is a real device")
MIXED = "expected all tensors to be on the same device"


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda x: x + torch.ones(3), MIXED),
        (lambda x: x @ torch.ones(3), MIXED),
        (lambda x: torch.ones(3)[x.long()], MIXED),
        (lambda x: torch.stack([x.sum(), torch.tensor(1.0)]), MIXED),
        (lambda x: torch.zeros(()).add_(x.sum()), MIXED),
        (lambda x: x.index_put_((torch.tensor([0]),), torch.ones(1)), MIXED),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: x.multinomial(1, generator=torch.Generator()), "generator"),
        (lambda x: torch.randn(2, device=x.device, generator=torch.Generator()), "generator"),
    ],
)
def test_what_a_gpu_refuses(wrong: Callable[[Tensor], Tensor], complaint: str) -> None:
    with pretend_device() as device:
        x = torch.ones(3, device=device)
        assert x.device.type == device
        with pytest.raises(RuntimeError, match=complaint):
            wrong(x)


def test_what_a_gpu_allows() -> None:
    with pretend_device() as device:
        x = torch.tensor([1.0, 2.0, 4.0], device=device)
        assert (x * torch.tensor(2.0)).tolist() == [2.0, 4.0, 8.0]
        assert x[torch.tensor([2, 0])].tolist() == [4.0, 1.0]
        assert torch.zeros(3).copy_(x).tolist() == x.tolist() == list(x.cpu().numpy())
        weight = torch.eye(3, device=device).requires_grad_()
        (x @ weight).square().sum().backward()
        assert weight.grad is not None and weight.grad.device == x.device
        assert weight.grad[0].tolist() == [2.0, 4.0, 8.0]
        x[1:] += 1
        assert x.tolist() == [1.0, 3.0, 5.0] and float(x.max()) == 5
