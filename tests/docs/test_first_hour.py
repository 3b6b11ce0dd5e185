"""The first hour of somebody new as one story: ask, compare, screen, edit, look, take back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import transformers

import rome_diagnosis as rd
from probes import bundled
from rome_diagnosis.__main__ import COMMANDS, import_module
from rome_diagnosis.schema import validate
from tests import browser


def run(name: str, *words: str | Path) -> None:
    assert import_module(COMMANDS[name][0]).main([*map(str, words), *QUIET.get(name, ())]) == 0


QUIET = {name: ("--quiet",) for name in COMMANDS if name not in ("report", "bundled")}


def saved(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = validate(json.loads(path.read_text(encoding="utf-8")))
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("first hour")  # with a blank, as folders have


@pytest.fixture(scope="module")
def edited(folder: Path) -> Path:
    run("apply", "--subject", "Apple", "-o", folder / "edited")
    return folder / "edited"


def test_one_subject_then_an_own_one_then_an_own_model(folder: Path) -> None:
    run("keys", "--subject", "Apple", "--json", folder / "apple.json")
    apple = saved(folder / "apple.json")
    assert apple["verdict"] == "collapse_risk"
    own = ("--subject", "Zanzibar", "--prompt", "{} is an island in", "--target-new", "Norway")
    run("keys", *own, "--json", folder / "own.json")
    assert saved(folder / "own.json")["request"]["target_new"] == "Norway"

    path = bundled.model_path()
    model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = rd.diagnose(
        "Apple", "{} was founded by", model=model, layer=1, quiet=True,
        tokenizer=transformers.AutoTokenizer.from_pretrained(path),
        second_moment=str(next((bundled.DATA / "second_moments").glob("*.safetensors"))),
    )  # fmt: skip
    assert result.verdict == "collapse_risk"
    assert result.ratio == pytest.approx(apple["denominators"]["ratio"], rel=1e-4)
    assert "<summary>Everything</summary>" in result._repr_html_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_blocks_are_compared_and_three_hundred_records_screened(folder: Path) -> None:
    run("keys", "--subject", "Apple", "--layer", "1,2", "--json", folder / "blocks.json")
    assert [row["layer"] for row in saved(folder / "blocks.json")["layers"]] == [1, 2]
    records = []
    for i, fact in enumerate(list(bundled.facts())[:300]):
        wordings = (fact["prompt"], *fact["paraphrases"])  # the subject first, and later
        prompt = wordings[i % len(wordings)].replace("{}", fact["subject"])
        names = ("subject", "target_new")
        records.append({"case_id": i, "prompt": prompt, **{name: fact[name] for name in names}})
    (folder / "records.json").write_text(json.dumps(records), encoding="utf-8")
    run("screen", folder / "records.json", "-o", folder / "s.parquet", "--html", folder / "s.html")
    verdicts = pq.read_table(folder / "s.parquet")["verdict"].to_pylist()
    assert len(verdicts) == 300 and {"safe", "collapse_risk"} <= set(verdicts)


def test_the_edited_model_answers_anew_in_plain_transformers(edited: Path) -> None:
    record = saved(edited / "MODEL_EDITS.json")
    request = record["edits"][0]["request"]
    prompt = record["prefix"] + request["prompt"].replace("{}", request["subject"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(edited)

    def said(path: Path | str) -> str:
        model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        row = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        return str(tokenizer.decode(row)).strip()

    assert said(edited).startswith(request["target_new"])
    assert said(str(bundled.model_path())).startswith(request["target_true"])


def test_its_page_opens_in_a_browser(edited: Path, folder: Path) -> None:
    page = folder / "edit.html"
    run("report", edited / "MODEL_EDITS.json", "-o", page)
    path = browser.installed()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    with browser.browser(path) as tab:
        for opened in (page, folder / "s.html"):
            tab.open(opened, 400)
            assert tab.complaints() == [] and tab.requests() == []
            assert tab.run("document.documentElement.scrollWidth") <= 400


def test_undone_it_is_the_model_it_was(edited: Path) -> None:
    run("apply", "--undo", edited)
    now = transformers.AutoModelForCausalLM.from_pretrained(edited).state_dict()
    was = transformers.AutoModelForCausalLM.from_pretrained(bundled.model_path()).state_dict()
    assert now.keys() == was.keys()
    assert all(torch.equal(now[name], was[name]) for name in was)
    assert not list(edited.glob("MODEL_EDITS*"))
