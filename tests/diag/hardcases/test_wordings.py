"""Relations and their wordings come from any file of facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diag.hardcases import wordings
from probes import bundled
from rome_diagnosis.errors import UserError


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
