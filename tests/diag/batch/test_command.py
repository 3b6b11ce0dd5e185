"""The command and the library call on the bundled model: one edit, a batch, made and unmade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from diag.batch import batch
from diag.batch.command import main
from diag.keys.command import main as keys
from diag.verify.command import main as verify
from probes import bundled
from probes.request.cases import from_record
from reports.pages.page import render
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS
from rome_diagnosis.schema import validate

PREFIXES = ["The weather was fine. ", "Therefore they walked to the river. "]
FACTS = {record["subject"]: record for record in reversed(bundled.facts())}
CASES = [from_record(FACTS[name]) for name in ("Apple", "Hugo Boss", "South Korea", "New York")]
QUICK: dict[str, Any] = {"prefixes": PREFIXES, "quiet": True, "texts": bundled.texts()[:3]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("batch") / "edited"
    found = batch(
        CASES, method="memit", layers=[1], parameters={"weight": 50.0}, save_model=folder, **QUICK
    )
    return folder, found


def test_the_document_says_what_was_foretold_and_what_came(made: tuple[Path, Any]) -> None:
    _, found = made
    document = validate(json.loads(found.to_json()))
    assert document["method"]["parameters"] == {"weight": 50.0}
    assert [row["name"] for row in document["family"]] == list(METHODS)
    assert {f["id"] for f in document["findings"]} == {
        "weight", "common_token", "asked_with", "condition", "pairs", "takes", "cross_response",
        "damage", "first_tokens",
    }  # fmt: skip
    (layer,) = document["performed"]["layers"]
    assert document["performed"]["prediction"].startswith("Before the edit")
    assert document["performed"]["prediction"] in render(document)
    # One layer: the closed form and the text set's tokens agree as far as C is their average.
    assert layer["damage"] == pytest.approx(layer["damage_measured"], rel=0.3)
    assert layer["damage"] <= document["layers"][0]["damage"]["bound"]
    assert layer["damage"] <= document["layers"][0]["damage"]["whatever_keys"]
    by_method = {row["name"]: row["response"] for row in document["family"]}
    # One equation: MEMIT with history is MEMIT as long as there is none.
    assert by_method["memit_seq"]["bare"] == pytest.approx(by_method["memit"]["bare"], rel=1e-6)
    assert by_method["rome"]["bare"] == pytest.approx(1.0)
    table = found.to_pandas()
    assert len(table) == 4 and {"received_bare", "received", "bare_p_after"} <= set(table)
    assert repr(found).startswith("Batch(4 edits by memit: ")


def test_a_saved_model_is_the_edited_one_for_plain_transformers(made: tuple[Path, Any]) -> None:
    folder, found = made
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    original = transformers.AutoModelForCausalLM.from_pretrained(bundled.model_path()).eval()
    changed = [
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, original.state_dict()[name])
    ]
    assert changed == ["transformer.h.1.mlp.c_proj.weight"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    edit = found.document["performed"]["edits"][1]
    asked = CASES[1].request
    prompt = tokenizer(asked.text, return_tensors="pt")["input_ids"]
    wanted = tokenizer(f" {asked.target_new}")["input_ids"]
    ids = torch.cat([prompt, torch.tensor([wanted[:-1]], dtype=torch.long)], dim=1)
    log_probs = torch.log_softmax(model(ids).logits[0], -1)
    start = prompt.shape[1] - 1
    each = torch.stack([log_probs[start + i, token] for i, token in enumerate(wanted)])
    assert float(each.mean().exp().detach()) == pytest.approx(
        edit["bare"]["p_after"], rel=1e-2, abs=1e-4
    )


def test_edits_of_two_layers_are_measured_as_real_weights(tmp_path: Path) -> None:
    """The tests re-run only the blocks above the lowest one; a saved model runs them all."""
    folder = tmp_path / "edited"
    found = batch(
        CASES[:2], method="memit", layers=[0, 1], parameters={"weight": 50.0}, save_model=folder,
        **QUICK,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    losses, n = 0.0, 0
    for text in QUICK["texts"]:
        ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :128]
        assert ids.shape[1] == len(tokenizer(text)["input_ids"])
        loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
        losses, n = losses + float(loss.detach()) * (ids.shape[1] - 1), n + ids.shape[1] - 1
    perplexity = found.document["performed"]["perplexity"]
    assert perplexity["n_tokens"] == n
    expected = float(torch.tensor(losses / n).exp())
    assert perplexity["after"] == pytest.approx(expected, rel=2e-3)
    assert perplexity["after"] != pytest.approx(perplexity["before"], rel=2e-3)


def test_the_command_checks_one_edit_and_counts_a_contradiction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--subject", "Apple", "--layer", "1", "--prefix", PREFIXES[0]]
    assert main([*words, "--json", str(tmp_path / "one.json")]) == 0
    assert "1 edit by MEMIT in block 1" in capsys.readouterr().out
    one = json.loads((tmp_path / "one.json").read_text())
    assert one["edits"][0]["nearest"] is None and "performed" not in one
    # MEMIT's published λ is not for this width.
    assert {f["id"]: f["status"] for f in one["findings"]}["weight"] == "warn"
    twice = [
        {"subject": "Apple", "prompt": "{} was founded by", "target_new": new}
        for new in ("Bill Gates", "Ferdinand Porsche")
    ]
    (tmp_path / "twice.json").write_text(json.dumps(twice))
    words = [str(tmp_path / "twice.json"), *words[2:], "--method", "emmet", "--damping", "0"]
    assert main([*words, "--json", str(tmp_path / "two.json"), "--quiet"]) == 0
    two = json.loads((tmp_path / "two.json").read_text())
    statuses = {f["id"]: f["status"] for f in two["findings"]}
    assert statuses["pairs"] == statuses["condition"] == "fail"
    assert two["pairs"][0]["kind"] == "contradiction"
    assert two["layers"][0]["condition_number"] is None
    assert two["verdict"] == "unclear"  # what was not measured is not called safe


def test_a_published_file_is_read_and_options_have_precedence(tmp_path: Path) -> None:
    values = {
        "layers": [0, 1], "clamp_norm_factor": 0.75, "fact_token": "subject_last",
        "v_num_grad_steps": 20, "v_lr": 0.5, "mom2_update_weight": 20000, "layer_selection": "all",
    }  # fmt: skip
    path = tmp_path / "memit.json"
    path.write_text(json.dumps(values))
    found = batch(CASES[:2], hyperparameters=path, parameters={"weight": 512.0}, **QUICK)
    assert [layer["layer"] for layer in found.document["layers"]] == [0, 1]
    assert found.document["method"]["parameters"] == {"weight": 512.0}
    plain = batch(CASES[:2], hyperparameters=path, **QUICK)
    assert plain.document["method"]["parameters"] == {"weight": 20000.0}
    bare = [each.document["edits"][0]["received_bare"] for each in (found, plain)]
    assert bare[0] > 5 * bare[1] > 0


def test_no_edits_are_no_batch() -> None:
    for nothing in ([], None):
        with pytest.raises(UserError, match="the batch has no edits"):
            batch(nothing, **QUICK)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to edit"),
        (["x.json", "--subject", "Apple"], "leave one of them out"),
        (["--subject", "Apple", "--layer", "1", "--layers", "1"], "say the same"),
        (["--subject", "Apple", "--layers", "1,x"], "is not a block"),
        (["--subject", "Apple", "--layers", "all"], "blocks that --layers names"),
        (["--subject", "Apple", "--layers", "1,2", "--method", "rome"], "edits one layer"),
        (["--subject", "Apple", "--l2", "3"], "memit has no parameter l2"),
        (["--subject", "Apple", "--layers", "99"], "layer 99 is out of range"),
        (
            ["--subject", "Apple", "--method", "alphaedit", "--l2", "0", "--target-new", "Sony"],
            "has no metric with these parameters",
        ),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main([*words, "--quiet"])


def test_commands_of_one_fact_turn_to_a_batch_for_its_methods(tmp_path: Path) -> None:
    """``--method`` of diag.keys and diag.verify: the same document as diag.batch writes."""
    words = ["--subject", "Apple", "--method", "emmet", "--prefix", PREFIXES[0], "--quiet"]
    words += ["--max-texts", "2"]
    written = {}
    for name, command in (("keys", keys), ("verify", verify), ("batch", main)):
        path = tmp_path / f"{name}.json"
        command([*words, "--json", str(path)])
        written[name] = json.loads(path.read_text())
    assert written["keys"]["family"] == written["verify"]["family"] == written["batch"]["family"]
    assert [name for name in written if "performed" in written[name]] == ["verify"]
    assert written["keys"]["method"]["name"] == "emmet"
    one_fact = tmp_path / "rome.json"
    keys(["--subject", "Apple", "--method", "c_rome", "--prefix", PREFIXES[0], "--json",
          str(one_fact), "--quiet"])  # fmt: skip
    assert json.loads(one_fact.read_text())["schema"] == "diag.keys/1"


def test_weights_that_round_edits_away_are_refused_before_anything_is_estimated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("diag.batch.settings.moments", lambda *_: pytest.fail("estimated"))
    with pytest.raises(UserError, match="rounded away"):
        batch(CASES[:1], layers=[1], perform=True, dtype="bfloat16", **QUICK)
    with pytest.raises(UserError, match="layer 9 is out of range"):
        batch(CASES[:1], layers=[1, 9], perform=True, **QUICK)
