"""``python -m diag.keys`` as a user meets it: real answers, repeatable ones, and clear refusals."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from diag.keys import command as keys
from diag.keys import diagnose
from diag.keys.api import choose_request
from probes import bundled
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.second_moment import estimate, stored
from probes.setup import Setup
from probes.text import corpus
from rome_diagnosis import command
from rome_diagnosis.disk import files as outputs
from rome_diagnosis.errors import UserError
from tests import oracle, tiny

ROOT = Path(__file__).parents[3]


def run(*words: str, module: str = "diag.keys") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def apple(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The main job, as the README runs it, with every output."""
    folder = tmp_path_factory.mktemp("apple")
    done = run(
        "--subject", "Apple", "--json", str(folder / "apple.json"),
        "--html", str(folder / "apple.html"), "--save-tensors", str(folder / "apple.safetensors"),
        "--verbose",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "apple.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_main_job_answers_every_question(apple: Path) -> None:
    text = (apple / "apple.txt").read_text(encoding="utf-8")
    for part in (
        "was founded by", "'Apple'", "'␣Apple'", "the first token", "ROME as published", "C-ROME",
        "P-ROME", "ρ = ", "over draws of the contexts", "of their norm", "no second sink",
        "ordinary first tokens", "python -m diag.keys",
    ):  # fmt: skip
        assert part in text, part
    document = json.loads((apple / "apple.json").read_text(encoding="utf-8"))
    assert document["summary"].split(".")[0] in " ".join(text.split())
    bare = document["lookup"]["unprefixed"]
    assert (bare["token"], bare["index"], bare["is_first_token"]) == ("Apple", 0, True)
    assert len(document["lookup"]["prefixed"]) == 21
    assert {row["token"] for row in document["lookup"]["prefixed"][1:]} == {"␣Apple"}


def test_the_document_keeps_the_contract(apple: Path) -> None:
    document = json.loads((apple / "apple.json").read_text(encoding="utf-8"))
    promised = {
        "model": "name path architecture n_layers d_model d_mlp dtype device bos_prepended",
        "site": "layer hook",
        "request": "subject prompt target_new target_true",
        "lookup": "unprefixed prefixed",
        "second_moment": "source n_tokens ridge condition_number position0_share",
        "keys": "norm_unprefixed norm_prefixed_mean cosine whitened_norm_unprefixed "
        "whitened_norm_prefixed_mean whitened_cosine",
        "denominators": "rome c_rome p_rome rome_normalised c_rome_normalised ratio "
        "ratio_without_bare ratio_interval",
        "damage": "rome c_rome p_rome",
        "response": "rome c_rome p_rome",
        "first_token": "layers",
    }
    assert document["schema"] == "diag.keys/1"
    assert {"version", "created", "findings", "verdict"} <= set(document)
    for name, fields in promised.items():
        assert set(fields.split()) <= set(document[name]), name
    for variant in ("rome", "c_rome", "p_rome"):
        bounds = {"bound", "relative_bound", "relative_bound_first_tokens"}
        assert bounds <= set(document["damage"][variant])
        answered = {"bare", "prefixed", "other_first_tokens", "later_tokens"}
        assert answered <= set(document["response"][variant])
    assert document["verdict"] in ("collapse_risk", "damage_risk", "safe", "unclear")
    for finding in document["findings"]:
        assert set(finding) == {"id", "status", "value", "limit", "message"}
        assert finding["status"] in ("pass", "warn", "fail", "not_checked")


def test_denominators_follow_from_the_saved_tensors(apple: Path) -> None:
    document = json.loads((apple / "apple.json").read_text(encoding="utf-8"))
    saved = load_file(apple / "apple.safetensors")
    assert saved["second_moment"].dtype == torch.float64
    ridge = document["second_moment"]["ridge"]
    moment = saved["second_moment"] + ridge * torch.eye(len(saved["second_moment"])).double()
    assert torch.equal(saved["prefixed"][0], saved["unprefixed"])
    mean, bare = saved["prefixed"].double().mean(0), saved["unprefixed"].double()
    u = torch.linalg.solve(moment, mean)
    p = torch.linalg.solve(moment, bare)
    found = document["denominators"]
    for name, expected in (
        ("rome", u @ bare),
        ("c_rome", u @ mean),
        ("p_rome", p @ bare),
        ("rome_normalised", u @ bare / u.norm()),
        ("c_rome_normalised", u @ mean / u.norm()),
        ("ratio", (u @ bare) / (u @ mean)),
    ):
        assert found[name] == pytest.approx(float(expected), rel=1e-6), name
    split = document["keys"]["whitened_length_ratio"] * document["keys"]["whitened_cosine"]
    assert found["ratio"] == pytest.approx(split, rel=1e-12)


def test_saved_keys_are_the_hugging_face_model_s(apple: Path, bundled_model: LoadedModel) -> None:
    document = json.loads((apple / "apple.json").read_text(encoding="utf-8"))
    saved = load_file(apple / "apple.safetensors")["prefixed"]
    for row, context in list(enumerate(document["lookup"]["prefixed"]))[::7]:
        text = context["prefix"] + "Apple"
        ids = bundled_model.tokenizer(text)["input_ids"][: context["index"] + 1]
        key, _ = oracle.key_and_value(bundled.model_path(), ids, document["site"]["layer"])
        assert float((saved[row] - key).norm() / key.norm()) <= 1e-5


def again(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The document of the command, run in this process instead of one of its own."""
    assert keys.main([*words, "--json", "-"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_the_same_command_writes_the_same_document(
    apple: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = json.loads((apple / "apple.json").read_text(encoding="utf-8"))
    second = again(
        capsys, "--subject", "Apple", "--html", str(tmp_path / "a.html"),
        "--save-tensors", str(tmp_path / "a.safetensors"),
    )  # fmt: skip
    assert first.pop("created") <= second.pop("created")
    assert first == second
    assert (tmp_path / "a.safetensors").read_bytes() == (apple / "apple.safetensors").read_bytes()


def test_the_command_in_the_document_repeats_it(
    apple: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shlex

    document = json.loads((apple / "apple.json").read_text(encoding="utf-8"))
    words = shlex.split(document["command"])
    assert words[:3] == ["python", "-m", "diag.keys"]
    repeated = again(capsys, *words[3:])
    for key in ("denominators", "damage", "lookup", "verdict", "command"):
        assert repeated[key] == document[key]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files that a user could name by mistake."""
    folder = tmp_path_factory.mktemp("files")
    corrupt = folder / "corrupt.safetensors"
    corrupt.write_bytes(b"\x00" * 64)
    model = load(tiny.save("gpt2", folder / "tiny"))
    text = corpus.Corpus.of("t", tiny.TRAINING_TEXT)
    stored.save(estimate.estimate(model, 2, text), folder / "other.safetensors")
    return {
        "corrupt": str(corrupt),
        "other": str(folder / "other.safetensors"),
        "folder": str(folder),
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--subject", "Apple", "--model", "nobody-has-this-model"], "nobody-has-this-model"),
        (["--subject", "Apple", "--layer", "99"], "layer 99 is out of range"),
        (["--subject", "Apple", "--layer", "-1"], "layer -1 is out of range"),
        (["--subject", "Apple", "--prompt", "Pears are"], "is not in the prompt"),
        (["--subject", "Apple", "--prompt", "Apple, Apple is"], "is 2 times in the prompt"),
        (["--subject", ""], "subject is empty"),
        (["--subject", "Apple", "--second-moment", ""], "--second-moment is empty"),
        (["--subject", "Apple", "--json", "/nowhere/at/all.json"], "there is no directory"),
        (["--subject", "Apple", "--json", "{folder}"], "it is a directory"),
        (["--subject", "Apple", "--html", "/proc/version"], "cannot write"),
        (["--subject", "Apple", "--second-moment", "{corrupt}"], "not a second moment"),
        (["--subject", "Apple", "--second-moment", "{other}"], "measured for another"),
        (["--subject", "Apple", "--second-moment", "absent.st"], "there is no second moment"),
        (["--subject", "Apple", "--n-prefixes", "-3"], "0 or more"),
        (["--subject", "Apple", "--prefix", " "], "--prefix is empty"),
        (["--subject", "Apple", "--device", "abacus"], "not a torch device"),
        (["--subject", "Apple", "--clamp-norm-factor", "0"], "above 0"),
        (["--subject", "Apple", "--clamp-norm-factor", "nan"], "above 0"),
        (["--subject", "Apple", "--layer", "two"], "is not a block"),
        (["--subject", "Apple", "--dtype", "int3"], "invalid choice"),
        (["--prompt", "{} is"], "--subject"),
        (["--subject", "river " * 400], "ends in white space"),
        (["--subject", "river " * 400 + "river"], "reads only"),
    ],
)
def test_mistakes_get_one_line_and_nothing_is_written(
    words: list[str], complaint: str, files: dict[str, str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words = [files.get(word.strip("{}"), word) for word in words]
    tensors = tmp_path / "t.safetensors"
    if "--json" not in words and "--html" not in words:
        words += ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    words += ["--save-tensors", str(tensors)]
    monkeypatch.setattr(sys, "argv", ["diag.keys", *words])
    with pytest.raises(SystemExit) as stop:
        command.run(lambda _: keys.main(words))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "words", "named"),
    [
        ("diag.covariance", ["--text", "some.txt", "--text", ""], "--text"),
        ("diag.covariance", ["--import-npz", ""], "--import-npz"),
        ("diag.screen", ["", "-o", "t.parquet"], "DATASET"),
        ("diag.verify", ["--edits", ""], "--edits"),
        ("probes.first_token", ["--subjects", ""], "--subjects"),
    ],
)
def test_no_command_takes_an_empty_file_name(module: str, words: list[str], named: str) -> None:
    with pytest.raises(UserError, match=f"^{named} is empty"):
        importlib.import_module(f"{module}.command").main(words)


def test_a_mistake_in_a_real_process_is_one_line() -> None:
    done = run("--subject", "Apple", "--prompt", "Pears are")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the subject 'Apple' is not in the prompt")
    assert len(done.stderr.splitlines()) == 1


def test_fail_on_sets_the_exit_code(
    bundled_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Setup, "load", lambda setup: bundled_model)
    prompt = ["--prompt", "The company {} was founded by", "--quiet"]
    for subject, expected in (("Apple", 1), ("Microsoft Apple Intel", 0)):
        words = ["--subject", subject, "--quiet", "--fail-on", "collapse_risk"]
        if not expected:
            words += prompt
        assert keys.main(words) == expected


def test_library_call_and_its_result() -> None:
    result = diagnose("Apple", "{} was founded by", n_prefixes=4, seed=3)
    assert "Apple" in repr(result)
    assert result.verdict in repr(result)
    row = result.to_pandas().iloc[0]
    assert row["rho"] == result.ratio == result.denominators["ratio"]
    assert row["is_first_token"]
    assert "<main" in result._repr_html_()
    assert json.loads(result.to_json()) == result.document
    fewer = diagnose("Apple", "{} was founded by", prefixes=["I think that", "The firm "])
    assert fewer.document["contexts"] == {"seed": None, "sampled": False, "n": 2}
    assert [row["prefix"] for row in fewer.document["lookup"]["prefixed"]] == [
        "", "I think that ", "The firm ",
    ]  # fmt: skip
    assert fewer.keys.shape == (3, fewer.document["model"]["d_mlp"])


def test_a_known_subject_brings_its_prompt_and_an_unknown_one_gets_is() -> None:
    known = choose_request("Apple", None)
    assert known.prompt in {f["prompt"] for f in bundled.facts() if f["subject"] == "Apple"}
    assert known.target_true
    assert choose_request("Zzyzx", None).prompt == "{} is"
    with pytest.raises(UserError, match="empty"):
        choose_request("", None)


def test_the_identity_is_judged_without_damage(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    document = diagnose(
        "Apple", "{} was", model=tiny_model("gpt2"), layer=1, second_moment="identity"
    ).document
    assert document["second_moment"]["source"] == "identity"
    damage = document["damage"]
    assert damage["rome"]["relative_bound"] is None
    assert damage["checked"] is None and "identity" in damage["not_checked"]
    finding = next(f for f in document["findings"] if f["id"] == "damage_rome")
    assert finding["status"] == "not_checked"
    assert "identity" in finding["message"]
    assert document["verdict"] in ("collapse_risk", "unclear")


@pytest.mark.parametrize(("name", "how"), [("gpt2", "closed form"), ("gemma2", "sampled")])
def test_damage_is_checked_whether_or_not_a_norm_follows_the_mlp(
    name: str, how: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    document = diagnose("Apple", "{} was", model=tiny_model(name), layer=1, quiet=True).document
    assert document["damage"]["checked"] == how
    assert document["damage"]["not_checked"] is None
    for editor in ("rome", "c_rome", "p_rome"):
        assert document["damage"][editor]["relative_bound"] > 0
        assert document["damage"][editor]["relative_bound_first_tokens"] >= 0
    assert document["damage"]["residual_norm"] > 0


def test_with_a_bos_the_unprefixed_subject_is_not_first() -> None:
    model = load(bundled.model_path(), bos=True)
    document = diagnose("Apple", "{} was founded by", model=model, layer=1).document
    assert document["model"]["bos_prepended"]
    assert document["lookup"]["unprefixed"]["index"] == 1
    assert not document["lookup"]["unprefixed"]["is_first_token"]
    assert document["second_moment"]["bos"]


anything = st.text(
    st.one_of(st.characters(), st.sampled_from(" {}'\"-\\\n<>&\u0301\u200d🙂")), max_size=15
)


@settings(
    max_examples=500, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(subject=anything, before=anything, after=anything, slot=st.booleans())
def test_the_command_never_shows_a_traceback(
    subject: str, before: str, after: str, slot: bool,
    tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    model = tiny_model("gpt2")
    patch = pytest.MonkeyPatch()
    patch.setattr(Setup, "load", lambda setup: model)
    written: list[str] = []
    patch.setattr(outputs, "write_text", lambda path, text: written.append(text))
    prompt = before + ("{}" if slot else subject) + after
    # `--option=value` is how a value that begins with a dash is given on a command line; pages of
    # hostile texts are tested in tests/house/test_hostile_documents.py.
    words = [
        f"--subject={subject}",
        f"--prompt={prompt}",
        "--prefix=They read that",
        f"--json={tmp_path_factory.getbasetemp()}/x",
    ]
    words += ["--layer=1", "--second-moment=identity", "--quiet"]
    try:
        with patch.context():
            assert keys.main(words) == 0
    except UserError as refused:
        assert str(refused).strip()
        assert not written
        return
    finally:
        patch.undo()
    document = json.loads(written[0])
    for context in document["lookup"]["prefixed"]:
        pieces = document["request"]["prompt"].split("{}", 1)
        head = context["prefix"] + pieces[0] + subject
        text = head + pieces[1]
        if "<|endoftext|>" not in text:
            assert context["index"] == oracle.last_token(tiny_dir("gpt2"), text, len(head))
