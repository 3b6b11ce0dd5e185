"""Both published formats and the bundled one, as their authors write them."""

from __future__ import annotations

import json

import pytest

from probes import bundled
from probes.request.cases import Neighbour, from_record, of_request, read
from probes.request.request import request
from rome_diagnosis.errors import UserError

ROME = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "The mother tongue of {} is",
        "relation_id": "P103",
        "target_new": {"str": "English", "id": "Q1860"},
        "target_true": {"str": "French", "id": "Q150"},
        "subject": "Danielle Darrieux",
    },
    "paraphrase_prompts": ["Shayna does this. Danielle Darrieux spoke", "Where she is from"],
    "neighborhood_prompts": ["The mother tongue of Léon Blum is", "Montesquieu spoke"],
}
EASY_EDIT = {
    "case_id": 0,
    "prompt": "The mother tongue of Danielle Darrieux is",
    "target_new": "English",
    "subject": "Danielle Darrieux",
    "ground_truth": "French",
    "rephrase_prompt": "Where Danielle Darrieux is from, people speak",
    "locality_prompt": "Michel Rocard is a native speaker of",
    "locality_ground_truth": "French",
}


def test_three_formats_say_the_same_edit():
    rome, easy = from_record(ROME), from_record(EASY_EDIT)
    assert rome.request == easy.request
    assert rome.request.prompt == "The mother tongue of {} is"
    assert rome.case_id == "7"
    assert rome.paraphrases == tuple(ROME["paraphrase_prompts"])
    assert rome.neighbourhood[1] == Neighbour("Montesquieu spoke", "French")
    assert easy.paraphrases == ("Where Danielle Darrieux is from, people speak",)
    assert easy.neighbourhood == (Neighbour("Michel Rocard is a native speaker of", "French"),)
    fact = bundled.facts()[0]
    case = from_record(fact)
    assert case.paraphrases[0] == fact["paraphrases"][0].replace("{}", fact["subject"])
    assert [n.answer for n in case.neighbourhood] == fact["neighbourhood_targets"]


def test_every_bundled_fact_is_an_edit():
    assert len({from_record(fact).digest for fact in bundled.facts()}) == len(bundled.facts())


def test_digest_changes_with_everything():
    whole = from_record(ROME).digest
    assert from_record(json.loads(json.dumps(ROME))).digest == whole
    for field in ("case_id", "paraphrase_prompts", "neighborhood_prompts"):
        assert from_record({k: v for k, v in ROME.items() if k != field}).digest != whole


def test_an_edit_of_a_bundled_fact_brings_its_tests():
    fact = bundled.facts()[0]
    edit = request(fact["subject"], fact["prompt"], target_new="Mars")
    assert of_request(edit).paraphrases
    assert of_request(edit).request is edit
    assert not of_request(request(fact["subject"], "{} is", target_new="Mars")).paraphrases


@pytest.mark.parametrize("lines", [False, True])
def test_records_that_are_no_edits_are_named_and_the_others_kept(tmp_path, lines):
    twice = EASY_EDIT | {"prompt": "Danielle Darrieux, Danielle Darrieux is"}
    records = [EASY_EDIT, twice, ROME, EASY_EDIT | {"target_new": " "}, EASY_EDIT | {"subject": 3}]
    path = tmp_path / "edits"
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    cases = read(path)
    assert [case.case_id for case in cases.found] == ["0", "7"]
    assert [refused.index for refused in cases.refused] == [1, 3, 4]
    assert "2 times" in cases.refused[0].reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "[1, 2]",
        "{",
        '{"subject": "Apple"}',
        json.dumps([EASY_EDIT | {"prompt": "He is"}]),
    ],
)
def test_files_without_edits_are_refused(tmp_path, text):
    path = tmp_path / "edits.json"
    path.write_text(text)
    with pytest.raises(UserError):
        read(path)
    with pytest.raises(UserError, match="cannot read"):
        read(tmp_path / "absent.json")
