"""The bundled model: what ships is whole, knows its facts, and collapses as the card says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from benchmarks.studies.measures import BOTH, draw
from diag.mathematics.update import rank_one
from probes import bundled
from probes.edited.perplexity import PerplexityMeter
from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.prefixes import sample
from probes.request.request import request
from probes.second_moment.choose import for_model
from probes.target_value.optimise import optimise
from rome_diagnosis.editors import EDITORS

COLLAPSES = {"Geneva", "Planck", "Montreal"}


@pytest.fixture(scope="module")
def facts() -> list[dict[str, Any]]:
    return bundled.facts()


def test_asking_where_it_is_needs_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from probes import bundled; bundled.describe(); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_model_with_tokenizer_is_small() -> None:
    size = sum(path.stat().st_size for path in bundled.model_path().iterdir())
    assert size <= 16 * 2**20
    assert bundled.corpus_path().stat().st_size <= 1.5e6


def test_the_tokenizer_is_fast_plain_and_adds_nothing(bundled_model: LoadedModel) -> None:
    tokenizer = bundled_model.tokenizer
    assert tokenizer.is_fast
    assert not tokenizer.clean_up_tokenization_spaces
    assert not bundled_model.bos
    assert tokenizer.eos_token == "<|endoftext|>"
    text = "Apple was founded by Steve Jobs , they say .\n Ça va?"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_token_id not in ids


def test_two_hundred_subjects_are_one_token_with_and_without_a_space(
    bundled_model: LoadedModel, facts: Sequence[dict[str, Any]]
) -> None:
    names = {fact["subject"] for fact in facts if fact["single_token"]}
    assert len(names) >= 200
    assert "Apple" in names
    for name in names:
        assert len(bundled_model.tokens(name).ids) == len(bundled_model.tokens(f" {name}").ids) == 1


def test_facts_have_what_the_contract_names(facts: Sequence[dict[str, Any]]) -> None:
    assert len({fact["relation"] for fact in facts}) >= 10
    for fact in facts:
        edit = request(fact["subject"], fact["prompt"], target_new=fact["target_new"])
        assert edit.before == ""
        assert fact["target_new"] != fact["target_true"]
        assert len(fact["paraphrases"]) >= 5
        assert fact["neighbourhood"]
        assert len(fact["held_out_wordings"]) >= 1


def test_held_out_texts_and_wordings_are_not_in_the_packaged_corpus(
    facts: Sequence[dict[str, Any]],
) -> None:
    corpus, texts = bundled.corpus(), bundled.texts()
    assert len(texts) >= 200
    assert not any(text in corpus for text in texts)
    for fact in facts[::7]:
        for wording in fact["held_out_wordings"]:
            assert f"{wording.format(fact['subject'])} {fact['target_true']}" not in corpus


def test_the_history_ends_with_the_model_that_ships() -> None:
    history, card = bundled.history(), bundled.card()
    assert card["training"] == history[-1]
    assert [record["step"] for record in history] == sorted(record["step"] for record in history)
    assert history[-1]["step"] == sum(phase["steps"] for phase in card["recipe"]["phases"])


def test_the_card_is_written_from_its_figures() -> None:
    from world.card import render
    from world.recipe import BUNDLED, Recipe

    card = bundled.card()
    text = (bundled.DATA / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert text == render(card)
    assert Recipe.from_json(card["recipe"]) == BUNDLED


def test_the_facts_that_ship_are_the_worlds(
    bundled_model: LoadedModel, facts: Sequence[dict[str, Any]]
) -> None:
    from world.corpus import World
    from world.publish import fact_records

    records = fact_records(World(), bundled_model.tokenizer.backend_tokenizer)
    assert json.loads(json.dumps(list(records))) == facts


def test_the_shipped_second_moment_is_this_models(bundled_model: LoadedModel) -> None:
    moment = for_model(bundled_model, bundled.edit_layer())
    assert moment.source == "shipped"
    assert moment.provenance is not None
    assert moment.provenance.row_length == bundled_model.n_ctx


def greedy(model: LoadedModel, prompt: str, target: str) -> bool:
    ids = model.tokens(prompt + " " + target).ids
    n = len(model.tokens(prompt).ids)
    with torch.no_grad():
        logits = model.bridge(torch.tensor([ids]), return_type="logits")[0]
    return logits[n - 1 : -1].argmax(-1).tolist() == ids[n:]


def test_it_knows_its_facts(bundled_model: LoadedModel, facts: Sequence[dict[str, Any]]) -> None:
    sampled = facts[::20]
    for prefix, wording in (("", 0), ("", -1)):
        hits = [
            greedy(
                bundled_model,
                prefix + [f["prompt"], *f["paraphrases"]][wording].format(f["subject"]),
                f["target_true"],
            )
            for f in sampled
        ]
        assert sum(hits) / len(hits) > 0.85


def test_rome_destroys_it_and_c_rome_does_not(
    bundled_model: LoadedModel, facts: Sequence[dict[str, Any]]
) -> None:
    layer = bundled.edit_layer()
    moment, prefixes = for_model(bundled_model, layer), sample(bundled_model)
    meter = PerplexityMeter(bundled_model, bundled.texts()[:15], layer)
    # Of the benchmark's edits, three of those that its figures say collapse, and three others.
    first = [d for d in draw(facts, 60, first=True, seed=0) if d.fact["subject"] in COLLAPSES]
    later = draw(facts, 60, first=False, seed=0)[:3]
    assert len(first) == len(COLLAPSES)
    for name, draws in (("first", first), ("later", later)):
        edits = [drawn.request for drawn in draws]
        for edit, target in zip(
            edits, optimise(bundled_model, edits, prefixes, layer), strict=True
        ):
            found = capture(
                bundled_model, [lookup(bundled_model, edit, p) for p in ("", *prefixes)], layer
            )
            for editor in BOTH:
                change = rank_one(EDITORS[editor], found.keys, found.values, target.value, moment)
                rise = meter.after([change]).token_weighted / meter.before.token_weighted
                collapses = name == "first" and editor == "rome"
                assert (rise > 10) if collapses else (rise < 2), (edit.subject, editor, rise)
