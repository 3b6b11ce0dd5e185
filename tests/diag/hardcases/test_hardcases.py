"""A set made anew is the same to the byte, its keys are what they are in every wording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from diag.hardcases import compose, controls, hardcases, wordings
from diag.hardcases.command import main
from diag.screen.shard import Screener
from probes import bundled
from probes.keys.many_edits import SharedPrefixes
from probes.request.records import read_edits
from probes.setup import Prepared, Setup
from reports.command import markdown, page, text
from reports.document import read_document
from rome_diagnosis.errors import UserError

EVIDENCE = Path(__file__).parents[3] / "docs" / "evidence" / "hardcases.json.gz"
FEW: dict[str, Any] = {"n_prefixes": 3, "quiet": True}


@pytest.fixture(scope="module")
def setup() -> Prepared:
    return Setup(**FEW).prepare()


@pytest.fixture(scope="module")
def screener(setup: Prepared) -> Screener:
    return Screener(SharedPrefixes(setup.model, setup.layer, setup.prefixes), setup.moment)


@pytest.fixture(scope="module")
def relations() -> list[wordings.Relation]:
    return wordings.read_wordings(bundled.facts_path())


@pytest.fixture(scope="module")
def composed(screener: Screener, relations: list[wordings.Relation]) -> compose.Composition:
    return compose.compose(screener, relations, 40, seed=0)


def test_subjects_are_words_that_are_one_token_wherever_they_stand(setup: Prepared) -> None:
    words = compose.words(setup.model)
    assert {"Apple", "Paris"} <= set(words) and len(words) > 300
    assert not {"Pol", "Sch", "Ind"} & set(words)  # beginnings of words
    assert not {"The", "When"} & set(words)  # of which the vocabulary has both
    tokenizer = setup.model.tokenizer
    assert {"The", "When"} <= {entry.lstrip("Ġ") for entry in tokenizer.get_vocab()}
    for word in words:
        assert len(tokenizer(word)["input_ids"]) == 1
        assert len(tokenizer(f"Yes {word}")["input_ids"]) == len(tokenizer("Yes")["input_ids"]) + 1


def test_a_subjects_figures_are_those_of_every_edit_that_is_composed_with_it(
    composed: compose.Composition, screener: Screener
) -> None:
    measured = screener.screen([each.case.request for each in composed.hard])
    for each, row in zip(composed.hard, measured, strict=True):
        assert isinstance(row, dict)
        assert row["is_first_token"] and each.is_hard
        assert row["rho"] == pytest.approx(each.row["rho"], rel=1e-3, abs=1e-6)
        assert row["verdict"] == each.row["verdict"]
    subjects = [each.case.request.subject for each in composed.hard]
    assert len(set(subjects)) == 40  # each once before any comes twice
    assert len({each.relation for each in composed.hard}) == 29


def test_the_model_prefers_the_true_object_among_those_of_the_relation(
    composed: compose.Composition, setup: Prepared, relations: list[wordings.Relation]
) -> None:
    named = {relation.name: relation for relation in relations}
    tokenizer = setup.model.tokenizer
    for each in composed.hard[:10]:
        edit = each.case.request
        ids = torch.tensor([tokenizer(edit.text)["input_ids"]])
        with torch.no_grad():
            logits = setup.model.bridge.original_model(ids).logits[0, -1]
        scores = {
            other: float(logits[tokenizer(f" {other}")["input_ids"][0]])
            for other in named[each.relation].objects
        }
        assert scores[str(edit.target_true)] == pytest.approx(max(scores.values()), abs=1e-4)
        assert scores[str(edit.target_new)] < max(scores.values())


def test_a_control_differs_in_its_key_alone(
    composed: compose.Composition, screener: Screener, relations: list[wordings.Relation]
) -> None:
    easy = controls.of_composed(screener, composed.hard, relations, seed=0)
    assert sum(each is not None for each in easy) >= 38
    for hard, control in zip(composed.hard, easy, strict=True):
        if control is None:
            continue
        one, other = hard.case.request, control.case.request
        assert control.row["verdict"] == "safe" and not control.row["is_first_token"]
        assert (one.target_new, one.target_true) == (other.target_new, other.target_true)
        assert control.relation == hard.relation
        assert other.subject == one.subject or " " in other.subject
        assert other.text not in control.case.paraphrases


def test_a_set_made_anew_is_the_same_to_the_byte(tmp_path: Path) -> None:
    options: dict[str, Any] = FEW | {"n": 6, "perform": 1, "generated_tokens": 3}
    first = hardcases(tmp_path / "a.json", **options)
    again = hardcases(tmp_path / "b.json", **options)
    other = hardcases(tmp_path / "c.json", **options | {"seed": 1, "perform": 0})
    written = [Path(made.path).read_bytes() for made in (first, again, other)]
    assert written[0] == written[1] != written[2]
    changing = ("created", "file")
    cards = [
        {k: v for k, v in made.document.items() if k not in changing} for made in (first, again)
    ]
    assert cards[0] == cards[1]
    groups = first.document["groups"]
    assert groups["hard"]["performed"]["rome"]["n"] == groups["easy"]["performed"]["rome"]["n"] == 1
    assert other.document["groups"]["hard"]["performed"] is None
    read = read_edits(first.path)
    assert not read.refused
    assert [case.group for case in read.cases].count("hard") == groups["hard"]["n"]
    table = first.to_pandas()
    assert set(table.groupby("subject").split.nunique()) == {1}
    assert list(table.performed.notna()).count(True) == 2
    documents = [dict(first.document)]
    for shown in (text(documents), page(documents), markdown(documents)):
        assert "6 hard edits" in shown and "licence: MIT" in shown


def test_the_command_mines_and_writes_its_card(tmp_path: Path, capsys: Any) -> None:
    data = tmp_path / "facts.jsonl"
    some = [fact for fact in bundled.facts() if fact["relation"].startswith("companies")]
    data.write_text("\n".join(map(json.dumps, some)))
    words = [str(data), "-o", str(tmp_path / "hard.json"), "-n", "5", "--perform", "0"]
    assert main([*words, "--n-prefixes", "3", "--licence", "MIT", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["made"] == "mined" and document["groups"]["hard"]["n"] == 5
    assert document["screened"] == len(some)
    card = (tmp_path / "hard.card.md").read_text()
    assert card.startswith("# Hard edits of bundled, block 1") and "licence: MIT" in card
    assert json.loads((tmp_path / "hard.card.json").read_text()) == document
    assert not (tmp_path / "hard.json.journal").exists()
    subjects = [case.request.subject for case in read_edits(tmp_path / "hard.json").cases]
    assert len(subjects) == len(set(subjects)) == 10


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--perform", "-1"], "must be 0 or more"),
        (["-n", "0"], "must be 1 or more"),
        (["--share-precision", "2"], "precision must be from 0 to 1"),
        (["--share-precision", "nan"], "precision must be from 0 to 1"),
        (["nothing.json"], "cannot read the edits nothing.json"),
        (["--wordings", "nothing.json"], "cannot read the edits nothing.json"),
        (["nothing.json", "--wordings", "w.json"], "data sets bring their own"),
        (["-o", "hard.csv"], "what goes there is .json"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Setup, "load", lambda self: pytest.fail("the model was loaded"))
    with pytest.raises((UserError, SystemExit), match=complaint) as caught:
        main(["-o", "hard.json", *words])
    assert "\n" not in str(caught.value)


def test_a_model_without_hard_edits_says_so(tmp_path: Path) -> None:
    data = tmp_path / "edits.json"
    edit = {"subject": "Space Needle", "prompt": "The {} is in", "target_new": "Rome"}
    data.write_text(json.dumps([edit]))
    with pytest.raises(UserError, match="no edit is hard for bundled at block 1: of 1 screened"):
        hardcases(tmp_path / "hard.json", datasets=[data], **FEW)
    assert not (tmp_path / "hard.json").exists()


def test_the_evidence_is_that_hard_edits_break_the_model_and_nothing_else_does() -> None:
    document = read_document(str(EVIDENCE))
    hard, easy = (document["groups"][name] for name in ("hard", "easy"))
    assert (hard["n"], easy["n"], easy["same_objects"]) == (1000, 1000, 1000)
    for group, broken in ((hard, {"rome": 60, "p_rome": 60}), (easy, {})):
        for arm, told in group["performed"].items():
            assert told["n"] == 60
            assert told["n"] - told["outcomes"]["intact"] == broken.get(arm, 0)
