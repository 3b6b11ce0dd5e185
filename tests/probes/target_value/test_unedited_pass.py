"""One pass of the unedited model: a GPT-2 leaves what the general way does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from probes.edited.blocks_above import UpperBlocks
from probes.forward.gpt2 import blocks
from probes.model.loaded import LoadedModel
from probes.target_value import unedited_pass

# Rows that begin alike, one that is another's beginning, one twice, a subject at the very front.
TEXTS = [
    [17, 600, 2, 90, 11],
    [5, 301, 9, 44, 260, 31, 8],
    [5, 301, 9, 44, 12],
    [5, 301, 9],
    [5, 301, 9, 44, 12],
    [7, 400],
]
LOOKUPS = [0, 3, 3, 2, 4, 1]


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("held", [[5], [0, 3]])
def test_a_gpt2_leaves_what_the_general_way_does(
    layer: int, held: list[int], tiny_model: Callable[[str], LoadedModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    upper = UpperBlocks(tiny_model("gpt2"), layer)
    assert blocks.is_gpt2(upper.plain)
    found = unedited_pass.run(upper, TEXTS, LOOKUPS, held)
    monkeypatch.setattr(blocks, "is_gpt2", lambda whole: False)
    expected = unedited_pass.run(upper, TEXTS, LOOKUPS, held)
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(found.output, expected.output, **close)
    torch.testing.assert_close(found.final, expected.final, **close)
    assert found.residual.shape == expected.residual.shape
    assert found.past.keys() == expected.past.keys() == set(range(layer + 1, 4))
    for row, (text, at) in enumerate(zip(TEXTS, LOOKUPS, strict=True)):
        own = slice(0, len(text) - at)
        torch.testing.assert_close(found.residual[row, own], expected.residual[row, own], **close)
        for i, pair in found.past.items():
            for part, other in zip(pair, expected.past[i], strict=True):
                assert part.shape == other.shape
                own_part = part[row, :, found.visible[row]]
                assert own_part.shape[1] == at
                torch.testing.assert_close(own_part, other[row, :, expected.visible[row]], **close)
    # What stands behind a text's end is masked, and has to be a number for that.
    assert all(bool(part.isfinite().all()) for pair in found.past.values() for part in pair)


def test_other_models_are_none(tiny_model: Callable[[str], LoadedModel]) -> None:
    assert not blocks.is_gpt2(UpperBlocks(tiny_model("gptj"), 1).plain)
