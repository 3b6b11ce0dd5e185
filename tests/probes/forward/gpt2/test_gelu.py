"""GELU by a sigmoid against PyTorch's own."""

from __future__ import annotations

import torch

from probes.forward.gpt2.gelu import gelu_and_slope


def test_it_is_gpt2s_gelu_with_its_gradient() -> None:
    x = torch.cat([torch.linspace(-12, 12, 2001), torch.tensor([-1e4, 0.0, 1e4])]).double()
    x.requires_grad_(True)
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    weight = torch.linspace(1, 2, len(x), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    with torch.no_grad():
        found, slope = gelu_and_slope(x)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(slope * weight, gradient)
    exact = torch.nn.functional.gelu(x.detach())
    assert (found - exact).abs().max() > 1e-4  # the control: the other GELU is not it
