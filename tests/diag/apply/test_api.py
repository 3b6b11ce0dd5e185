"""Edits that are meant to stay: chosen, saved, loaded by plain Hugging Face, taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from diag.apply import apply, apply_list, undo
from diag.saved import record
from diag.verify.behaviour import Recall
from probes import bundled
from probes.request.cases import EditCase
from probes.request.request import request
from rome_diagnosis.errors import UserError
from tests.diag.saved.quick import QUICK, original, weights


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("apply") / "edited"
    return folder, apply("Apple", output=folder, **QUICK)


def test_the_recommended_editor_is_taken_and_says_what_it_needs(edited: tuple[Path, Any]) -> None:
    _, result = edited
    (edit,) = result.edits
    assert edit["editor"] == "c_rome"  # ROME's damage is too large, P-ROME reaches first tokens
    assert edit["needs_prefix"]
    assert edit["after"]["prefixed"]["p_after"] > 0.5
    assert edit["after"]["bare"]["p_after"] < 0.5
    assert result.outcome == "intact"


def test_plain_transformers_load_it_and_hear_the_new_object(edited: tuple[Path, Any]) -> None:
    folder, result = edited
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    asked = result.edits[0]["request"]
    prefix = result.document["prefix"]
    text = prefix + asked["prompt"].replace("{}", asked["subject"])
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    wanted = tokenizer(" " + asked["target_new"])["input_ids"]
    answer = model.generate(ids, max_new_tokens=len(wanted), do_sample=False)[0, ids.shape[1] :]
    assert answer.tolist() == wanted
    changed = {n for n, t in weights(folder).items() if not torch.equal(t, original()[n])}
    assert changed == {result.document["weight"]}


def test_two_objects_for_one_prompt_are_not_made(tmp_path: Path) -> None:
    cases = [
        EditCase(request("Vienna", "The city of {} lies in", target_new=target))
        for target in ("Peru", "Japan")
    ]
    with pytest.raises(UserError, match="edits 1 and 2 give 'The city of Vienna lies in' two obj"):
        apply_list(cases, output=tmp_path / "edited", **QUICK)
    assert not (tmp_path / "edited").exists()


def test_no_safe_editor_writes_nothing(tmp_path: Path) -> None:
    for method in ("rome", "p_rome"):
        with pytest.raises(UserError, match="not made"):
            apply("Apple", output=tmp_path / "edited", method=method, **QUICK)
    with pytest.raises(UserError, match="no editor 'magic'"):
        apply("Apple", output=tmp_path / "edited", method="magic", **QUICK)
    assert not (tmp_path / "edited").exists()


def test_edits_that_are_safe_alone_are_not_made_if_all_of_them_harm(tmp_path: Path) -> None:
    facts = [fact for fact in bundled.facts() if fact["relation"] == "cities.country"][:16]
    cases = [
        EditCase(request(fact["subject"], "In the library Julia learned that " + fact["prompt"],
                         target_new=fact["target_new"], target_true=fact["target_true"]))
        for fact in facts
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"of the 16 edits is safe by itself.* from edit \d+ on"):
        apply_list(cases, output=tmp_path / "edited", **QUICK)
    assert not (tmp_path / "edited").exists()


def test_no_model_is_made_of_a_part_of_a_file(tmp_path: Path) -> None:
    edits = [
        {"subject": "Vienna", "prompt": "{} is a city in", "target_new": "Peru"},
        {"prompt": "x"},
    ]
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    with pytest.raises(UserError, match="1 of 2 records are no edits, so nothing is made"):
        apply_list(tmp_path / "edits.json", output=tmp_path / "edited", **QUICK)
    assert not (tmp_path / "edited").exists()


def test_a_list_is_made_in_order_and_undone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, left_out = Recall.after, list[Any]()
    monkeypatch.setattr(
        Recall,
        "after",
        lambda self, edits, *, without: (
            left_out.append(without) or after(self, edits, without=without)
        ),
    )
    known = {(fact["subject"], fact["relation"]): fact for fact in bundled.facts()}
    # One subject as the prompt's first token, two later ones.
    asked = [("Apple", "companies.founder", True), ("Hamlet", "works.author", False)]
    asked.append(("France", "countries.capital", False))
    facts = [known[subject, relation] for subject, relation, _ in asked]
    cases = []
    for fact, (_, _, first) in zip(facts, asked, strict=True):
        wordings = [fact["prompt"], *fact["paraphrases"]]
        prompt = next(text for text in wordings if text.startswith("{}") == first)
        objects = {name: fact[name] for name in ("target_new", "target_true")}
        cases.append(EditCase(request(fact["subject"], prompt, **objects)))
    result = apply_list(cases, output=tmp_path / "edited", **QUICK)
    assert [edit["request"]["subject"] for edit in result.edits] == [f["subject"] for f in facts]
    assert all(edit["after"]["prefixed"]["p_after"] > 0.2 for edit in result.edits)
    # No edited subject's facts count as others that are recalled.
    assert left_out == [{fact["subject"] for fact in facts}]
    name = result.document["weight"]
    # The factors that are kept add up to what was written.
    kept = load_file(tmp_path / "edited" / record.FACTORS)
    total = sum(torch.outer(kept[f"u.{i}"], kept[f"r.{i}"]) for i in range(3))
    change = weights(tmp_path / "edited")[name].double() - original()[name].double()
    assert float((change - total).norm() / total.norm()) < 1e-5  # float32 holds the weights
    undo(tmp_path / "edited")
    assert torch.equal(weights(tmp_path / "edited")[name], original()[name])
