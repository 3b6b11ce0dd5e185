"""The verification as a command: outputs, precedence, mistakes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import transformers

import reports.__main__
from diag.verify import verify
from diag.verify.command import main
from rome_diagnosis.errors import UserError
from tests.diag.verify.test_one_edit import few_tokens  # noqa: F401


def run(tiny_dir, *words):
    return main(
        ["--model", str(tiny_dir("gpt2")), "--layer", "1", "--second-moment", "identity",
         "--n-prefixes", "2", "--max-texts", "2", "--evaluations", "3",
         "--generated-tokens", "4", *words]
    )  # fmt: skip


def test_command_for_one_edit(tiny_dir, tmp_path, capsys):
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    code = run(
        tiny_dir, "--subject", "Apple", "--prompt", "{} was founded by", "--target-new", "<b>you",
        "--json", str(out), "--html", str(page), "--save-model", str(tmp_path / "edited"),
        "--collapse-ratio", "1000000000", "--fail-on", "any",
    )  # fmt: skip
    assert code == 0
    shown = capsys.readouterr().out
    assert "Apple was founded by" in shown
    document = json.loads(out.read_text())
    assert document["outcome"]["rome"].upper() in shown
    assert "Perplexity after the edit over before" in shown
    assert "&lt;b&gt;you" in page.read_text()
    assert reports.__main__.main([str(out), "-o", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == page.read_text()
    assert reports.__main__.main([str(out)]) == 0
    assert capsys.readouterr().out == shown
    assert document["optimisation"]["steps"] <= 2
    assert document["command"].startswith("python -m diag.verify --model")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "edited")
    original = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    changed = {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, original.state_dict()[name])
    }
    assert changed == {"transformer.h.1.mlp.c_proj.weight"}


def test_command_for_a_list(tiny_dir, tmp_path, capsys):
    edits = tmp_path / "edits.json"
    records = [
        {"subject": "Apple", "prompt": "Apple was founded by", "target_new": "you"},
        {"subject": "Paris", "prompt": "It is", "target_new": "you"},
        {"subject": "Paris", "prompt": "I like {}", "target_new": "you"},
    ]
    edits.write_text(json.dumps(records))
    out = tmp_path / "out.json"
    assert run(tiny_dir, "--edits", str(edits), "--json", str(out)) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Of 2 edits, ")
    assert "record 2: the subject" in " ".join(captured.out.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edits.json", "out.json"]
    assert len(json.loads(out.read_text())["edits"]) == 2
    assert run(tiny_dir, "--edits", str(edits), "--limit", "1", "--json", "-") == 0
    assert len(json.loads(capsys.readouterr().out)["edits"]) == 1


def test_hyperparameter_file_decides_layer_and_second_moment(tiny_dir, tmp_path, capsys):
    path = tmp_path / "hparams.yaml"
    path.write_text("layers: [2]\nv_num_grad_steps: 20\nv_lr: 1e-1\nmom2_adjustment: false\n")
    code = main(
        ["--model", str(tiny_dir("gpt2")), "--subject", "Apple", "--prompt", "{} is",
         "--target-new", "you", "--hyperparameters", str(path), "--evaluations", "2",
         "--n-prefixes", "2", "--max-texts", "2", "--generated-tokens", "2", "--json", "-"]
    )  # fmt: skip
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["site"]["layer"] == 2
    assert document["second_moment"]["source"] == "identity"
    assert document["settings"]["hyperparameters"]["learning_rate"] == 0.1
    assert document["optimisation"]["steps"] == 1  # the option has precedence over the file


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "either --subject or a file of edits"),
        (["--subject", "Apple", "--edits", "x"], "leave one of them out"),
        (["--subject", "Apple", "--prompt", "{} tastes"], "--target-new"),
        (["--edits", "absent.json"], "cannot read"),
        (["--edits", "absent.json", "--target-new", "you"], "--target-new is for one edit"),
        (["--subject", "Apple", "--target-new", "you", "--texts", "absent"], "cannot read"),
        (["--subject", "Apple", "--target-new", "you", "--max-texts", "0"], "1 or more"),
        (["--subject", "Apple", "--target-new", "you", "--hyperparameters", "absent"], "cannot"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(words, message):
    with pytest.raises(UserError, match=message):
        main(["--model", "/there/is/no/model", *words])


@pytest.mark.parametrize("option", ["--clamp-norm-factor", "--precision", "--collapse-ratio"])
@pytest.mark.parametrize("value", ["0", "-1", "inf", "nan", "much"])
def test_numbers_that_cannot_be_meant_are_refused_by_the_parser(option, value):
    with pytest.raises(UserError, match=f"argument {option}: "):
        main(["--subject", "Apple", "--target-new", "you", f"{option}={value}"])


def test_nothing_heavy_is_imported_for_help():
    code = "import sys, diag.verify; sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = "import sys, reports.text.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_that_round_edits_away_are_refused_before_anything_is_estimated(
    dtype, tiny_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("ROME_DIAGNOSIS_CACHE", str(tmp_path))  # no estimate of another test's

    def estimated(*_, **__):
        raise AssertionError("a second moment was estimated for nothing")

    monkeypatch.setattr("probes.second_moment.choose.estimate_layers", estimated)
    with pytest.raises(UserError, match=f"stored as {dtype}.*load it with --dtype float32"):
        verify("Apple", "{} is", target_new="Paris", model=tiny_dir("gpt2"), dtype=dtype)
    with pytest.raises(AssertionError, match="for nothing"):  # as the test could not see otherwise
        verify("Apple", "{} is", target_new="Paris", model=tiny_dir("gpt2"))
