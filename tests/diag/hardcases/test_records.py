"""A record holds what the case holds, whoever reads it; relations come from any file of facts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diag.hardcases import mine, wordings
from diag.hardcases.cases import Screened, record
from probes import bundled
from probes.request.cases import EditCase, from_record
from rome_diagnosis.errors import UserError
from tests.diag.hardcases.made import edit

FACTS = bundled.facts()


@pytest.mark.parametrize("i", range(0, len(FACTS), 97))
def test_our_reader_finds_the_same_case_in_a_record(i: int) -> None:
    case = replace(from_record(FACTS[i]), case_id="hard-00007", group="hard")
    written = record(replace(edit(), case=case, relation="r"), 7, "test", None)
    read = from_record(json.loads(json.dumps(written)))
    assert read.request == case.request
    assert read.paraphrases == case.paraphrases
    assert set(read.neighbourhood) == set(case.neighbourhood)
    assert len(read.neighbourhood) == len(case.neighbourhood) > 0
    assert (read.case_id, read.group) == ("hard-00007", "hard")
    # The control: ROME's neighbours are those with the same object, and no others.
    same = [each for each in case.neighbourhood if each.answer == case.request.target_true]
    assert written["neighborhood_prompts"] == [each.prompt for each in same]


def test_published_code_finds_its_fields() -> None:
    written = record(edit(), 0, "develop", None)
    rewrite = written["requested_rewrite"]  # kmeng01/rome, dsets/counterfact.py
    assert rewrite["prompt"].format(rewrite["subject"]) == "Apple was founded by"
    assert (rewrite["target_new"], rewrite["target_true"]) == ({"str": "Gates"}, {"str": "Jobs"})
    assert written["prompt"] == "Apple was founded by"  # EasyEdit
    assert (written["subject"], written["target_new"], written["ground_truth"]) == (
        "Apple", "Gates", "Jobs",
    )  # fmt: skip


def test_relations_of_the_bundled_facts_have_wordings_either_way_and_objects_of_their_type() -> (
    None
):
    relations = {
        relation.name: relation for relation in wordings.read_wordings(bundled.facts_path())
    }
    capital = relations["countries.capital"]
    assert "{} has its capital in" in capital.first
    assert "The capital of {} is" in capital.later
    assert {"Paris", "Rome"} <= set(capital.objects)
    assert "English" not in capital.objects
    for relation in relations.values():
        assert all(prompt.startswith("{}") for prompt in relation.first)
        assert not any(prompt.startswith("{}") for prompt in relation.later)


def counterfact(**other: Any) -> list[dict[str, Any]]:
    """Records in ROME's format, whose paraphrases have other text before them."""
    places = {"Danielle": "French", "Napoli": "Italian", "Audi": "German", "Sony": "Japanese"}
    return [
        {
            "case_id": i,
            "requested_rewrite": {
                "prompt": "The mother tongue of {} is" if i % 2 else "{} spoke",
                "subject": subject,
                "target_new": {"str": "English"},
                "target_true": {"str": language},
                **other,
            },
            "paraphrase_prompts": [f"Shayna does this. {subject} spoke the language"],
        }
        for i, (subject, language) in enumerate([*places.items()] * 2)
    ]


def test_templates_of_counterfact_are_wordings(tmp_path: Path) -> None:
    path = tmp_path / "counterfact.json"
    path.write_text(json.dumps(counterfact(relation_id="P103")))
    with pytest.raises(UserError, match="comes with 3 subjects"):  # two subjects for each prompt
        wordings.read_wordings(path)
    records = counterfact(relation_id="P103")
    for i, one in enumerate(records):
        one["requested_rewrite"]["prompt"] = "The mother tongue of {} is" if i < 4 else "{} spoke"
    path.write_text(json.dumps(records))
    (relation,) = wordings.read_wordings(path)
    assert relation.name == "P103"
    assert relation.first[0] == "{} spoke"
    assert "The mother tongue of {} is" in relation.later
    assert relation.objects == ("French", "German", "Italian", "Japanese")


def test_a_data_set_without_new_objects_cannot_be_mined(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('{"subject": "Apple", "prompt": "{} is", "target_true": "red"}\n[]\n')
    with pytest.raises(UserError, match=r"none of the 2 rows.*line 1: target_new is missing"):
        mine.read_candidates(str(path))


def test_a_record_of_two_formats_has_each_prompt_once() -> None:
    prompts = {
        "paraphrase_prompts": ["Who founded Apple?"],
        "rephrase_prompt": "Who founded Apple?",
    }
    neighbours = {"neighborhood_prompts": ["Pixar is"], "locality_prompt": ["Pixar is", "Lotus is"]}
    told = {"locality_ground_truth": ["Jobs", "fast"]}
    base = {"subject": "Apple", "prompt": "{} is", "target_new": "x", "target_true": "Jobs"}
    read: EditCase = from_record(base | prompts | neighbours | told)
    assert read.paraphrases == ("Who founded Apple?",)
    assert [(each.prompt, each.answer) for each in read.neighbourhood] == [
        ("Pixar is", "Jobs"), ("Lotus is", "fast"),
    ]  # fmt: skip
    assert isinstance(edit(), Screened)
