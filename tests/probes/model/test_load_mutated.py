"""A model directory that went wrong is refused in one line, or nothing about it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from probes.model.load import load
from rome_diagnosis.errors import UserError
from tests import oracle
from tests.probes.model import mutated

NAMES = ("gpt2", "llama", "gemma2", "opt", "neox-small")
HARMLESS = ("other order", "float64")


def check(seed: int, directory: Path, tiny_dir: Callable[[str], Path]) -> tuple[str, bool]:
    """What was done to a model, and whether it was refused; fails where it is believed wrongly."""
    original = tiny_dir(NAMES[seed % len(NAMES)])
    done = mutated.mutate(original, directory / str(seed), seed)
    try:
        model = load(directory / str(seed))
    except UserError as error:
        assert "\n" not in str(error)
        assert not done.startswith(HARMLESS), done
        return done, True
    ids = model.tokens("Apple was founded by Steve Jobs.").ids
    with torch.no_grad():
        logits = model.bridge(torch.tensor([ids]), return_type="logits")[0].double()
    expected = oracle.Plain(original).run(ids, 1)["logits"]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    return done, False


@pytest.mark.parametrize("seed", range(14))
def test_refused_or_right(seed: int, tmp_path: Path, tiny_dir: Callable[[str], Path]) -> None:
    check(seed, tmp_path, tiny_dir)


@pytest.mark.slow
def test_two_hundred(tmp_path: Path, tiny_dir: Callable[[str], Path]) -> None:
    results = [check(seed, tmp_path, tiny_dir) for seed in range(1000, 1200)]
    refused = sum(was_refused for _, was_refused in results)
    print(f"{refused} refused, {len(results) - refused} right")
    kinds = {done.split(":")[0] for done, _ in results}
    assert kinds == {*mutated.TENSORS, *mutated.FILES}
    assert 0 < refused < len(results)
