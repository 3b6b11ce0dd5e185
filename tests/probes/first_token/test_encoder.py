"""The encoder control: T5 built and trained here has no first-token anomaly."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import transformers
from transformers import T5Config, T5ForConditionalGeneration

from probes.first_token import encoder, probe, run
from probes.first_token.subjects import SubjectCase
from probes.request.request import request
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.probes.first_token import probing

NAMES = ("Apple", "Because", "Danielle", "France", "French", "Needle", "Paris", "Seattle", "Space",
         "Steve", "Therefore", "They")  # fmt: skip
CASES = [
    SubjectCase(request(n, "{} was founded by"), request(n, "I think that {} is")) for n in NAMES
]
LAYER = 1
WORDS = " ".join(tiny.TRAINING_TEXT[:4]).split()
TEXTS = [
    " ".join(random.Random(seed).sample(WORDS, random.Random(seed).randint(5, 20)))
    for seed in range(80)
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 of three blocks that has learnt to fill in one missing word."""
    folder = tmp_path_factory.mktemp("t5")
    tiny.sentencepiece_like_tokenizer(folder, bos=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=700, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4,
            decoder_start_token_id=0, pad_token_id=0, eos_token_id=0, dropout_rate=0.0,
        )
    )  # fmt: skip
    rows = [tokenizer(text)["input_ids"] for text in tiny.TRAINING_TEXT[:4]]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        row = list(rows[step % 4])
        gap = 1 + step // 4 % (len(row) - 2)
        missing, row[gap] = row[gap], 699
        loss = model(input_ids=torch.tensor([row]), labels=torch.tensor([[699, missing]])).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-8:]) < sum(losses[:8])
    model.save_pretrained(folder)
    return folder


def test_an_encoder_has_no_first_token_anomaly(directory: Path) -> None:
    loaded = encoder.load_encoder(str(directory))
    found = encoder.control(loaded, CASES, probing.PREFIXES, TEXTS, layer=LAYER)
    assert found.n == len(NAMES)
    assert [block["layer"] for block in found.layers] == [0, 1, 2]
    assert 0.7 < found.rho_unprefixed.mean < 1.4
    assert found.below_limit == 0.0
    block = found.layers[LAYER]
    first, later = block["cells"]["first_bare"], block["cells"]["later_bare"]
    assert 0.5 < first["spread"] / later["spread"] < 2.0
    assert first["whitened_spread"] > 0.5
    assert block["pairs"][0]["probe"] is not None


def test_keys_are_those_of_one_text_alone(directory: Path) -> None:
    loaded = encoder.load_encoder(str(directory))
    ids, index = encoder._find(loaded, "The weather was fine. Apple was founded by", 27)
    assert loaded.tokenizer.convert_ids_to_tokens(ids[index]) == "▁Apple"
    other = loaded.tokenizer("Paris")["input_ids"]
    batched = encoder.keys(loaded, [other, ids])
    seen: list[torch.Tensor] = []
    wo = loaded.model.block[LAYER].layer[1].DenseReluDense.wo
    handle = wo.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    loaded.model(input_ids=torch.tensor([ids]))
    handle.remove()
    assert torch.allclose(batched[LAYER][1], seen[0].double(), atol=1e-5)
    # Later text counts in an encoder: the positive control that it is one.
    alone = encoder.keys(loaded, [ids, ids[: index + 1]])[LAYER]
    assert not torch.allclose(alone[0][index], alone[1][index], atol=1e-4)


def test_only_t5_and_usable_subjects(directory: Path, tiny_dir) -> None:
    with pytest.raises(UserError, match="is a gpt2"):
        encoder.load_encoder(str(tiny_dir("gpt2")))
    loaded = encoder.load_encoder(str(directory))
    texts = TEXTS
    with pytest.raises(UserError, match="give a prefix"):
        encoder.control(loaded, CASES, [], texts)
    with pytest.raises(UserError, match="too few"):
        encoder.control(loaded, CASES, probing.PREFIXES, texts[:5])
    with pytest.raises(UserError, match="blocks 0 to 2"):
        encoder.control(loaded, CASES, probing.PREFIXES, texts, layer=3)
    long = [
        SubjectCase(request("Danielle Darrieux", "{} is"), request("Danielle Darrieux", "So {} is"))
    ]
    with pytest.raises(UserError, match="only 0 subjects"):
        encoder.control(loaded, long, probing.PREFIXES, texts)


def test_the_command_tells_the_control_beside_the_model(
    directory: Path, tiny_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TEXTS", 12)
    found = probe(
        model=tiny_model("gpt2"), layer=LAYER, subjects=CASES, prefixes=probing.PREFIXES, pairs=1,
        second_moment="identity", encoder=str(directory),
    ).document  # fmt: skip
    assert found["encoder"]["n"] == len(NAMES)
    assert "In the encoder" in found["findings"][-1]["message"]
    assert "--encoder" in found["command"]
