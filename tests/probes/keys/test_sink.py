"""Where the attention sink is born: planted in a model, it is found there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from probes.forward.batches import batches
from probes.forward.bridge import run_to
from probes.keys.sink import SinkRecorder, writers
from probes.model.adopt import adopt
from probes.model.loaded import LoadedModel

TEXTS = [[5, 6, 7, 8], [9, 6, 7]]


def first_positions(model: LoadedModel, last: int) -> list:
    recorder = SinkRecorder(model, last)
    for batch in batches(TEXTS, model):
        run_to(model, batch, last, recorder.hooks(batch))
    return recorder.first_positions()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_it_is_the_hugging_face_models_stream(
    name: str, tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_dir(name)).eval()
    with torch.no_grad():
        streams = [plain(torch.tensor([ids]), output_hidden_states=True) for ids in TEXTS]
    for at in first_positions(tiny_model(name), 1):
        firsts = torch.stack([out.hidden_states[at.block][0, 0] for out in streams]).double()
        assert at.norm == pytest.approx(float(firsts.norm(dim=-1).mean()), rel=1e-5)
        squares = firsts.square().mean(0)
        assert at.coordinates == squares.topk(3).indices.tolist()
        expected = float(squares[at.coordinates].sum() / squares.sum())
        assert at.share == pytest.approx(expected, rel=1e-5)


def test_a_planted_sink_is_seen_in_its_coordinate(tiny_dir: Callable[[str], Path]) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    with torch.no_grad():  # the position embedding writes it: it is there before any block
        plain.transformer.wpe.weight[0, 11] = 500.0
    model = adopt(plain, AutoTokenizer.from_pretrained(tiny_dir("gpt2")))
    for at in first_positions(model, 2):
        assert at.coordinates[0] == 11
        assert at.share > 0.99


def test_it_is_written_by_the_block_before_the_one_it_enters() -> None:
    assert writers([1.0, 1.2, 9.0, 30.0], 3.0) == [1]
    assert writers([1.0, None, 2.9], 3.0) == []
    assert writers([7.0, 7.0], 3.0) == []  # the embedding's own
    assert writers([1.0, 9.0, 8.0, 1.0, None, 200.0], 3.0) == [0, 4]  # erased, and written again
