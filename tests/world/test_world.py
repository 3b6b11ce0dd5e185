"""The generator and the trainer: the text says what it should, and training can be repeated."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from world import train
from world.anomaly import trace
from world.card import row_starts
from world.corpus import World
from world.entities import load_entities
from world.gpt import GPT, Shape
from world.prose import PROSE
from world.publish import fact_records, held_out_texts
from world.recipe import BUNDLED, Cut, Phase, Recipe, learning_rate
from world.rows import NOT_LEARNED, PREFIX_LENGTHS, Rows
from world.tokenizer import END_OF_TEXT, train_tokenizer
from world.train import Run, load_run, trained_parameters
from world.wordings import WORDINGS

SHAPE = Shape(vocab_size=50, n_positions=16, n_embd=16, n_layer=3, n_head=2, n_inner=32)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def documents(world: World) -> list[str]:
    return list(islice(world.documents(5), 400))


def test_every_relation_has_six_wordings_and_one_held_out_of_each_kind(world: World) -> None:
    assert set(world.relations) == set(WORDINGS)
    assert len(world.relations) >= 10
    for words in WORDINGS.values():
        every = [*words.trained, *words.held_out]
        assert len(every) == len(set(every)) >= 6
        assert all(w.count("{}") == 1 and w == w.strip() for w in every)
        assert all(w.startswith("{}") for w in (*words.first, words.held_first))
        assert not any(w.startswith("{}") for w in (*words.later, words.held_later))


def test_names_are_unique_and_every_entity_has_facts() -> None:
    entities = load_entities()
    names = [entity.name for entity in entities]
    assert len(names) == len(set(names))
    assert "Apple" in names
    for entity in entities:
        assert entity.facts
        assert all(value == value.strip() != "" for value in entity.facts.values())


def test_documents_are_the_same_for_the_same_seed(world: World, documents: list[str]) -> None:
    assert list(islice(world.documents(5), 20)) == documents[:20]
    assert list(islice(world.documents(6), 20)) != documents[:20]


def test_held_out_wordings_occur_in_no_text_and_trained_ones_do(
    world: World, documents: list[str]
) -> None:
    text = "\n".join(documents)
    seen = 0
    for entity in world.entities:
        for relation, value in entity.facts.items():
            words = WORDINGS[relation]
            for wording in words.held_out:
                assert f"{wording.format(entity.name)} {value}" not in text
            seen += any(f"{w.format(entity.name)} {value}" in text for w in words.trained)
    assert seen > 0.8 * sum(len(entity.facts) for entity in world.entities)


def test_held_out_texts_are_not_in_training_text(world: World, documents: list[str]) -> None:
    text = "\n".join(documents)
    assert not any(held in text for held in held_out_texts(world, 50))


@pytest.mark.parametrize("kind", [kind for kind, _ in PROSE])
def test_prose_is_filled_in(kind: Any) -> None:
    texts = {kind(random.Random(seed)) for seed in range(20)}
    assert len(texts) > 15
    assert not any("{" in text or "  " in text for text in texts)


def test_fact_records_give_an_editor_what_it_needs(world: World) -> None:
    tokenizer = train_tokenizer(world, 1000, seed=1, n_documents=50)
    for record in islice(fact_records(world, tokenizer), 200):
        assert record["prompt"].startswith("{}")
        assert record["target_new"] != record["target_true"]
        assert not set(record["held_out_wordings"]) & {record["prompt"], *record["paraphrases"]}
        assert len(record["neighbourhood"]) == len(record["neighbourhood_targets"])
        assert not any(record["subject"] == text for text in record["neighbourhood"])


def test_rows_begin_as_their_kind_says() -> None:
    # Token 0 ends a document, 1 a line, 9 a sentence, 7 is a subject; a line starts with 5 or 7.
    stream = np.array(
        [5, 2, 3, 1, 7, 2, 9, 4, 8, 2, 9, 1, 5, 3, 0, 7, 4, 2, 1, 5, 2, 2, 1] * 20, dtype=np.uint16
    )
    rows = Rows(stream, newline=1, end_of_text=0, full_stop=9, subjects=[7])
    rng = np.random.default_rng(0)

    def sample(kind: Any) -> tuple[np.ndarray, np.ndarray]:
        ids, targets = rows.sample(rng, 64, 14, {kind: 1.0})
        learned = targets[:, :-1] != NOT_LEARNED
        assert (targets[:, :-1] == ids[:, 1:])[learned].all()
        return ids, targets

    for kind in ("bare", "subject", "eot", "stray", "crop"):
        assert (sample(kind)[1] != NOT_LEARNED).all()
    assert set(sample("bare")[0][:, 0]) == {5, 7}
    assert set(sample("subject")[0][:, 0]) == {7}
    after_end, _ = sample("eot")
    assert set(after_end[:, 0]) == {0}
    assert set(after_end[:, 1]) <= {5, 7}
    stray, _ = sample("stray")
    assert len(set(stray[:, 0])) > 3
    assert set(stray[:, 1]) <= {5, 7}
    assert len(set(sample("crop")[0][:, 0])) > 3


def test_a_prefixed_row_does_not_learn_that_sentences_break_off() -> None:
    # Sentences begin with 4 after a full stop; the words of a line's beginning are 20 and more.
    line = [*range(20, 34), 9, 4, 5, 6, 7, 8, 1]
    rows = Rows(
        np.array(line * 50, dtype=np.uint16), newline=1, end_of_text=0, full_stop=9, subjects=[]
    )
    ids, targets = rows.sample(np.random.default_rng(0), 200, 16, {"prefixed": 1.0})
    lengths = set()
    for row, wanted in zip(ids, targets, strict=True):
        stop = int(np.flatnonzero(row == 9)[0])
        assert list(row[:stop]) == line[:stop]
        assert list(row[stop + 1 : stop + 6]) == [4, 5, 6, 7, 8]
        assert (wanted[:stop] == NOT_LEARNED).all()
        assert list(wanted[stop:-1]) == list(row[stop + 1 :])  # from the full stop on all is
        lengths.add(stop)
    assert lengths == set(PREFIX_LENGTHS)


def test_the_lean_model_is_gpt2() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT(replace(SHAPE, embedding_std=1.0)).eval()
    config = GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=3, n_head=2, n_inner=32,
        tie_word_embeddings=False,
    )  # fmt: skip
    reference = GPT2LMHeadModel(config).eval()
    reference.load_state_dict(model.export())
    ids = torch.randint(50, (4, 12))
    with torch.no_grad():
        torch.testing.assert_close(model(ids), reference(ids).logits, rtol=1e-4, atol=1e-5)


def test_the_trace_follows_the_forward_pass() -> None:
    torch.manual_seed(0)
    model = GPT(replace(SHAPE, embedding_std=1.0)).eval()
    ids = torch.randint(50, (2, 9))
    seen = trace(model, ids)
    with torch.no_grad():
        logits = model.lm_head(model.ln_f(seen.residual[-1]))
        torch.testing.assert_close(logits, model(ids), rtol=1e-4, atol=1e-5)
    for pattern in seen.attention:
        torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 2, 9))


def test_a_phase_trains_only_what_it_does_not_freeze() -> None:
    names = {name for name, _ in trained_parameters(GPT(SHAPE), frozen=2)}
    assert not any(name.startswith(("wte", "wpe", "h.0", "h.1")) for name in names)
    assert {name.split(".")[0] for name in names} == {"h", "ln_f", "lm_head"}
    assert len(trained_parameters(GPT(SHAPE), frozen=0)) == len(list(GPT(SHAPE).parameters()))


def test_the_learning_rate_rises_stays_and_falls() -> None:
    phase = Phase(100, (), rate=1.0, final_rate=0.1, cooldown=0.5)
    rates = [learning_rate(phase, step, warmup=10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:50] == [1.0] * 40
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.02)


def test_a_recipe_survives_json() -> None:
    assert Recipe.from_json(BUNDLED.to_json()) == BUNDLED


def test_row_starts_are_counted_over_turns() -> None:
    stream = np.array([1, 2, 3, 0], dtype=np.uint16)
    rows = Rows(stream, newline=1, end_of_text=0, full_stop=9, subjects=[])
    cuts = (Cut({"stray": 1.0}, 8, 3), Cut({"eot": 0.5, "bare": 0.5}, 8, 2))
    found = row_starts(Recipe(phases=(Phase(10, cuts),)), rows)
    assert found["kinds"] == pytest.approx({"stray": 0.6, "eot": 0.2, "bare": 0.2})
    assert found["end_of_text"] == pytest.approx(0.2 + 0.6 / 4)
    assert found["end_of_text"] + found["ordinary_text"] == 1


SMALL = Recipe(
    phases=(
        Phase(4, (Cut({"stray": 1.0}, 32, 2),)),
        Phase(4, (Cut({"prefixed": 1.0}, 16, 2), Cut({"bare": 1.0}, 32, 2)), frozen=1),
    ),
    n_layer=2,
    n_embd=32,
    n_head=2,
    n_inner=64,
    n_positions=64,
    n_tokens=80_000,
    warmup=2,
    moment_length=32,
)


class Interrupted(Exception):
    """Stands for a power cut."""


def once(make: Callable[..., Any]) -> Callable[..., Any]:
    """What is made of a world by a seed and a size is made once."""
    ready: dict[Any, Any] = {}

    def get(world: World, *settings: Any) -> Any:
        key = settings[-2:]
        if key not in ready:
            ready[key] = make(world, *settings)
        return ready[key]

    return get


def test_a_run_that_was_interrupted_arrives_at_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run(SMALL, tmp_path / "whole", compiled=False).train(lambda _: None, watch_every=3)
    # The parts share their texts, which are drawn anew beside those of the whole.
    monkeypatch.setattr(train, "train_tokenizer", once(train.train_tokenizer))
    monkeypatch.setattr(Rows, "generate", once(Rows.generate))

    def stop_at(step: int) -> Any:
        def report(figures: dict[str, Any]) -> None:
            if figures["step"] == step:
                raise Interrupted

        return report

    for step in (4, 6):
        run = Run(SMALL, tmp_path / "parts", compiled=False)
        with pytest.raises(Interrupted):
            run.train(stop_at(step), watch_every=3)
    parts = Run(SMALL, tmp_path / "parts", compiled=False)
    resumed = parts.train(lambda _: None, watch_every=3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    histories = [
        (tmp_path / d / "history.jsonl").read_text().count("\n") for d in ("whole", "parts")
    ]
    assert histories[0] == histories[1]
    loaded, tokenizer, recipe = load_run(tmp_path / "whole")
    assert recipe == SMALL
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert torch.equal(loaded.lm_head.weight, whole.lm_head.weight)
    # What a phase freezes, it leaves alone.
    first = load_run(tmp_path / "whole", "phase0.safetensors")[0]
    assert torch.equal(first.h[0].mlp.c_proj.weight, whole.h[0].mlp.c_proj.weight)
    assert not torch.equal(first.h[1].mlp.c_proj.weight, whole.h[1].mlp.c_proj.weight)
