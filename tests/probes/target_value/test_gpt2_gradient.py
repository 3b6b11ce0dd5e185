"""The lean blocks against the general ones: what the loss reads, and gradients."""

from __future__ import annotations

import pytest
import torch

from probes.edited.blocks_above import UpperBlocks
from probes.target_value import gpt2_gradient
from probes.target_value.constants import Reads, Suffixes

ROWS = [
    [5, 301, 9, 44, 260, 31, 8],
    [17, 600, 2, 90, 11],
    [12, 13, 14, 15, 16, 18, 19, 20, 21],
    [7, 400],
]
START = torch.tensor([2, 0, 5, 1])
LENGTHS = torch.tensor([5, 5, 4, 1])  # from there on


def constants(upper, width):
    """What an optimisation hands over: the suffixes of ROWS from START on, padded to width."""
    recording = upper.record(ROWS, before=START)
    everyone = torch.arange(len(ROWS))[:, None]
    earlier = int(START.max())
    position = (START[:, None] + torch.arange(width)).clamp(max=recording.ids.shape[1] - 1)
    mask = torch.zeros(len(ROWS), 1, width, earlier + width)
    low = torch.finfo(torch.float32).min
    own = torch.arange(earlier) >= earlier - START[:, None]
    mask[..., :earlier] = torch.where(own, 0.0, low)[:, None, None]
    mask[..., earlier:] = torch.full((width, width), low).triu(1)
    room = earlier + width
    return Suffixes(
        residual=recording.residual[everyone, position],
        lengths=LENGTHS.clamp(max=width),
        norm_input=recording.norm_input[everyone[:, 0], START],
        ids=recording.ids[everyone, position],
        mask=mask,
        position_ids=position,
        past={
            i: (keys[:, :, :room].contiguous(), values[:, :, :room].contiguous())
            for i, (keys, values) in recording.past.items()
        },
    )


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(
    ("width", "read"),
    [
        (4, ([0, 1, 1, 2, 0, 3], [3, 2, 3, 3, 0, 0])),  # several positions of a row, in any order
        (4, ([2, 1], [1, 2])),  # rows that are not read at all
        (1, ([0, 1, 2, 3], [0, 0, 0, 0])),  # the subject ends every text
    ],
)
def test_logits_and_gradients_equal_the_general_ones(tiny_model, layer, width, read):
    upper = UpperBlocks(tiny_model("gpt2"), layer)
    assert gpt2_gradient.applies(upper.plain, layer)
    suffixes = constants(upper, width)
    residual, n = suffixes.residual, suffixes.earlier
    past = {i: (k[:, :, :n], v[:, :, :n]) for i, (k, v) in suffixes.past.items()}
    row, place = (torch.tensor(part) for part in read)
    target, held = torch.arange(3, 3 + len(row)), torch.tensor([0, 3])
    initial = torch.randn(2, upper.vocabulary).log_softmax(-1)
    reads = Reads(row, place, target, held, initial)
    blocks = gpt2_gradient.LeanBlocks(upper.plain, layer, suffixes, reads)
    torch.manual_seed(layer)
    change = torch.randn(residual[:, 0].shape).requires_grad_(True)
    subject = residual[:, 0] + change
    whole = torch.cat([subject[:, None], residual[:, 1:]], dim=1)
    at = (torch.cat([row, held]), torch.cat([place, torch.zeros_like(held)]))
    final = upper.final(
        whole, suffixes.ids, suffixes.mask, at, position_ids=suffixes.position_ids, past=past
    )
    general = upper.head(final).log_softmax(-1)
    n = len(row)
    expected_read = general[:n].gather(1, target[:, None])[:, 0]
    expected_kl = torch.nn.functional.kl_div(
        initial, general[n:], log_target=True, reduction="none"
    ).sum(-1)
    log_probs, kl = blocks.read(change.detach())
    torch.testing.assert_close(log_probs, expected_read, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(kl, expected_kl, atol=1e-4, rtol=1e-4)
    weight, other = torch.randn(n), torch.randn(2)
    (expected,) = torch.autograd.grad(
        (expected_read * weight).sum() + (expected_kl * other).sum(), change
    )
    found = blocks.gradient(weight, other)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert expected.norm() > 0.01


def test_applies_only_where_it_computes_what_the_model_does(tiny_model):
    assert not gpt2_gradient.applies(UpperBlocks(tiny_model("gptj"), 1).plain, 1)
    plain = UpperBlocks(tiny_model("gpt2"), 1).plain
    assert gpt2_gradient.applies(plain, 1)
    assert not gpt2_gradient.applies(plain, 2)  # the first block above is the last
    plain.model.config.scale_attn_by_inverse_layer_idx = True
    try:
        assert not gpt2_gradient.applies(plain, 1)
    finally:
        plain.model.config.scale_attn_by_inverse_layer_idx = False
