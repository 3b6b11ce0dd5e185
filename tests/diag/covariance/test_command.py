"""``python -m diag.covariance``: several layers, parts, kills, processes, other people's files."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diag.covariance import second_moments
from diag.covariance.command import main
from diag.judgement.limits import TOKENS_PER_DIMENSION
from diag.keys import command
from probes.model.load import load
from probes.second_moment import choose, corpus_pass, estimate, shrinkage, stored
from probes.second_moment import imported as moment_files
from probes.second_moment.moment import SecondMoment
from probes.second_moment.sums import Accumulator, token_shapes
from probes.text import corpus
from reports.markdown import render as markdown
from reports.numbers import number
from reports.pages.covariance import use
from reports.pages.page import render
from rome_diagnosis.errors import UserError
from tests import tiny

ROOT = Path(__file__).parents[3]
TEXTS = [
    *tiny.TRAINING_TEXT[:4],
    "I think the river is in Seattle.",
    "Apple, Apple and the weather; Paris.",
    "They walked to the Space Needle because the weather was fine, and read this in French.",
] * 24


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and a text for it."""
    folder = tmp_path_factory.mktemp("covariance")
    tiny.save("gpt2", folder / "model")
    (folder / "text.txt").write_text("\n\n".join(TEXTS))
    return folder


def words(files: Path, output: Path, layers: str = "1,2") -> list[str]:
    return [
        "--model", str(files / "model"), "--layers", layers, "--text", str(files / "text.txt"),
        "--row-length", "32", "-o", str(output), "--quiet",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def pieces() -> Any:
    """Chunks of a few rows, so that a small text has many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_pass, "BATCH_TOKENS", 256)
        yield


@pytest.fixture(scope="module")
def made(files: Path, pieces: None) -> dict[int, SecondMoment]:
    """Two layers in one pass."""
    output = files / "c-{layer}.safetensors"
    saving = ["--json", str(files / "c.json"), "--html", str(files / "c.html")]
    assert main([*words(files, output), *saving]) == 0
    assert not list(files.glob("*.checkpoint"))
    return {layer: stored.load(files / f"c-{layer}.safetensors") for layer in (1, 2)}


def test_several_layers_in_one_pass_are_the_single_ones(
    made: dict[int, SecondMoment], files: Path
) -> None:
    model = load(files / "model")
    text = corpus.Corpus.of("text.txt", TEXTS)
    for layer, moment in made.items():
        alone = estimate.estimate(model, layer, text, row_length=32)
        assert torch.allclose(moment.moment, alone.moment, rtol=1e-4, atol=1e-7)
        assert moment.provenance == replace(alone.provenance, model=str(files / "model"))
        assert moment.background.residual_norm == pytest.approx(alone.background.residual_norm)
        assert len(moment.background.later_keys) == len(alone.background.later_keys)
        choose.check(moment, model, layer)


def test_the_summary_says_what_c_rests_on(made: dict[int, SecondMoment], files: Path) -> None:
    document = json.loads((files / "c.json").read_text())
    assert document["schema"] == "diag.covariance/1"
    assert [layer["layer"] for layer in document["layers"]] == [1, 2]
    for layer in document["layers"]:
        moment = made[layer["layer"]]
        assert layer["n_tokens"] == moment.provenance.n_tokens
        assert layer["convergence"]["n"] > 10
        assert layer["convergence"]["median"] <= layer["convergence"]["largest"]
        assert 0 < layer["shrinkage"] < 1


def test_the_library_call_gives_what_the_command_gives(
    made: dict[int, SecondMoment], files: Path, tmp_path: Path
) -> None:
    result = second_moments(
        model=str(files / "model"), layers=[2, 1], text=[str(files / "text.txt")], row_length=32,
        output=str(tmp_path / "c-{layer}.safetensors"),
    )  # fmt: skip
    document = json.loads((files / "c.json").read_text())
    for ours, theirs in zip(result.document["layers"], document["layers"], strict=True):
        assert ours["convergence"]["median"] == pytest.approx(theirs["convergence"]["median"])
    for layer, moment in made.items():
        assert float((result.load(layer).moment - moment.moment).abs().max()) <= 1e-12
    assert result.to_pandas()["layer"].tolist() == [1, 2]
    with pytest.raises(UserError, match="only of 1, 2"):
        result.load(3)
    for wrong, said in (
        ({"row_length": 0}, "row-length"), ({"layers": []}, "no layers"), ({"text": []}, "no text"),
        ({"ridge": "much"}, "ridge"), ({"text": "/nowhere.txt"}, "/nowhere.txt"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            second_moments(model="there is no such model", **wrong)


def test_the_page_says_how_well_c_is_known(made: dict[int, SecondMoment], files: Path) -> None:
    document = json.loads((files / "c.json").read_text())
    page = render(document)
    assert (files / "c.html").read_text(encoding="utf-8") == page
    assert page.count("<svg") == 2
    for layer in document["layers"]:
        halves = layer["convergence"]["halves"]
        moved = [abs(one - other) / 2 for one, other in halves]
        assert max(moved) == pytest.approx(layer["convergence"]["largest"])
        assert f"known to ± {number(layer['convergence']['median'])}" in page
        words = shlex.split(use(document, layer))
        asked = command.build_parser().parse_args(words[3:])
        assert asked.second_moment == layer["file"] and asked.layer == layer["layer"]
        assert f"## Block {layer['layer']}" in markdown(document)
    hostile = document | {"model": "<script>alert(1)</script>", "command": "</pre><b>"}
    assert "<script>alert" not in render(hostile) and "</pre><b>" not in render(hostile)
    del hostile["layers"][0]["convergence"], hostile["run"]
    assert render(hostile).count("<svg") == 1


def test_killed_it_ends_with_the_very_same_moments(
    made: dict[int, SecondMoment], files: Path, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys\n"
        "from probes.second_moment import corpus_pass\n"
        "corpus_pass.BATCH_TOKENS = 256\n"
        "write, count = corpus_pass._write, []\n"
        "def die(*arguments):\n"
        "    write(*arguments)\n"
        "    count.append(1)\n"
        "    if len(count) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "corpus_pass._write = die\n"
        "from diag.covariance.command import main\n"
        "main(sys.argv[1:])\n"
    )
    output = tmp_path / "c-{layer}.safetensors"
    killed = subprocess.run(
        [sys.executable, "-c", script, *words(files, output), "--checkpoint-every", "0"],
        cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, timeout=300,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    (checkpoint,) = tmp_path.glob("*.checkpoint")
    assert not list(tmp_path.glob("*.safetensors"))
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        main([*words(files, output), "--seed", "1"])
    counted: list[int] = []
    feed = corpus_pass.feed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_pass, "feed", lambda *a, **k: (counted.append(1), feed(*a, **k)))
        assert main(words(files, output)) == 0
    assert not checkpoint.exists()
    chunks = -(-made[1].provenance.n_tokens // 256)
    assert len(counted) == chunks - 3
    for layer, moment in made.items():
        again = stored.load(tmp_path / f"c-{layer}.safetensors")
        # The sums went on where they were: the difference is rounding between thread counts.
        assert float((again.moment - moment.moment).abs().max()) <= 1e-12
        assert again.provenance == moment.provenance
        assert torch.equal(again.background.first_keys, moment.background.first_keys)


def test_two_processes_are_one(made: dict[int, SecondMoment], files: Path, tmp_path: Path) -> None:
    script = tmp_path / "covariance.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from probes.second_moment import corpus_pass\n"
        "corpus_pass.BATCH_TOKENS = 256\n"
        "from rome_diagnosis import command\n"
        "from diag.covariance.command import main\n"
        "command.run(main)\n"
    )
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(script), *words(files, tmp_path / "c-{layer}.safetensors"),
            "--json", str(tmp_path / "c.json"),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "c.json").read_text())["run"]["processes"] == 2
    for layer, moment in made.items():
        both = stored.load(tmp_path / f"c-{layer}.safetensors")
        assert both.provenance == moment.provenance
        assert float((both.moment - moment.moment).abs().max()) <= 1e-12
        for name in ("first_keys", "later_keys"):
            one, two = (getattr(m.background, name) for m in (moment, both))
            assert torch.allclose(one, two, rtol=1e-5, atol=1e-6)
        assert both.background.residual_norm == pytest.approx(moment.background.residual_norm)


def test_parts_add_up_to_the_whole(
    files: Path, made: dict[int, SecondMoment], tmp_path: Path
) -> None:
    model = load(files / "model")
    rows = list(corpus.rows(model, corpus.Corpus.of("t", TEXTS), length=32))
    parts, whole = [], Accumulator.empty(token_shapes(model), 0)
    for i, half in enumerate((rows[:20], rows[20:])):
        sums = Accumulator.empty(token_shapes(model), i)
        corpus_pass.feed(model, {1: sums}, half, batch_tokens=256)
        corpus_pass.feed(model, {1: whole}, half, batch_tokens=256)
        text = corpus.Corpus.of(f"part {i}", [f"part {i}"])
        stored.save(
            estimate.of_sums(sums, model, 1, text, row_length=32), tmp_path / f"{i}.safetensors"
        )
        parts.append(str(tmp_path / f"{i}.safetensors"))
    assert main(["--merge", *parts, "-o", str(tmp_path / "both.safetensors"), "--quiet"]) == 0
    both = stored.load(tmp_path / "both.safetensors")
    expected = whole.total / whole.n_tokens
    assert torch.allclose(both.moment, (expected + expected.T) / 2, rtol=1e-12, atol=1e-14)
    assert both.provenance.n_tokens == whole.n_tokens
    assert both.provenance.position0_share == pytest.approx(whole.n_first / whole.n_tokens)
    with pytest.raises(UserError, match="are of the same text"):
        main(["--merge", parts[0], parts[0], "-o", str(tmp_path / "x.safetensors")])
    with pytest.raises(UserError, match="another layer"):
        main(["--merge", parts[0], str(files / "c-2.safetensors"), "-o", str(tmp_path / "x")])


def published(path: Path, moment: SecondMoment, **changes: Any) -> Path:
    """Statistics as the reference's ``save_cached_state`` writes them."""
    n = moment.provenance.n_tokens
    values = {
        "mom2.constructor": "util.runningstats.SecondMoment()", "mom2.count": n,
        "mom2.mom2": (moment.moment * n).float().numpy(),
        "constructor": "util.runningstats.CombinedStat()", "sample_size": 100000,
    }  # fmt: skip
    np.savez(path, **(values | changes))
    return path


def test_published_statistics_are_imported_and_held_to_their_layer(
    files: Path, made: dict[int, SecondMoment], tmp_path: Path
) -> None:
    name = "transformer.h.1.mlp.c_proj_float32_mom2_100000.npz"
    path = published(tmp_path / name, made[1])
    output = tmp_path / "c.safetensors"
    arguments = [*words(files, output, "1"), "--import-npz", str(path)]
    assert main(arguments) == 0
    imported = stored.load(output)
    assert torch.allclose(imported.moment, made[1].moment, rtol=1e-5, atol=1e-7)
    assert imported.provenance.n_tokens == made[1].provenance.n_tokens
    assert imported.provenance.row_length is None
    assert imported.background.residual_norm == pytest.approx(made[1].background.residual_norm)
    choose.check(imported, load(files / "model"), 1)
    with pytest.raises(UserError, match="is of layer 1 by its name, not 2"):
        main([*words(files, output, "2"), "--import-npz", str(path)])
    nameless = published(tmp_path / "stats.npz", made[1])
    with pytest.raises(UserError, match="is not of layer 2"):
        main([*words(files, output, "2"), "--import-npz", str(nameless)])


def test_foreign_and_dangerous_statistics_are_refused(
    made: dict[int, SecondMoment], tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    moment = made[1]
    asymmetric = torch.triu(torch.ones(8, 8)).numpy()
    cases = {
        "pickle": {"mom2.mom2": np.array([Trap()], dtype=object)},
        "shape": {"mom2.mom2": np.zeros((3, 4))},
        "empty": {"mom2.count": 0},
        "nan": {"mom2.mom2": np.full((4, 4), np.nan)},
        "asymmetric": {"mom2.mom2": asymmetric},
    }
    for name, change in cases.items():
        with pytest.raises(UserError):
            moment_files.read_npz(published(tmp_path / f"{name}.npz", moment, **change))
    assert not (tmp_path / "sprung").exists()
    # The trap works where pickles are allowed.
    with np.load(tmp_path / "pickle.npz", allow_pickle=True) as file:
        file["mom2.mom2"]
    assert (tmp_path / "sprung").exists()
    (tmp_path / "text.npz").write_text("no statistics")
    with pytest.raises(UserError, match=r"is no \.npz file of statistics"):
        moment_files.read_npz(tmp_path / "text.npz")
    np.savez(tmp_path / "mean.npz", mean=np.zeros(3))
    with pytest.raises(UserError, match="expected mom2"):
        moment_files.read_npz(tmp_path / "mean.npz")


def test_the_rule_shrinks_only_where_tokens_are_few(files: Path, tmp_path: Path) -> None:
    assert TOKENS_PER_DIMENSION.value == shrinkage.FEW_TOKENS_PER_DIMENSION
    output = tmp_path / "c.safetensors"
    few = ["--max-tokens", "256"]
    assert main([*words(files, output, "1"), *few]) == 0
    shrunk = stored.load(output)
    assert shrunk.least_ridge > 0 and shrunk.ridge == shrunk.least_ridge
    assert main([*words(files, output, "1"), *few, "--ridge", "none"]) == 0
    bare = stored.load(output)
    assert bare.least_ridge == 0
    assert torch.equal(bare.moment, shrunk.moment)  # what was measured stays what was measured
    assert main([*words(files, output, "1"), "--ridge", "0.5"]) == 0
    half = stored.load(output)
    assert half.ridge == pytest.approx(0.5 * float(half.moment.diagonal().mean()))
    solved = half.solve(half.moment[0])
    whole = half.moment + half.ridge * torch.eye(128, dtype=torch.float64)
    assert torch.allclose(whole @ solved, half.moment[0])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--layers", "one"], "must be numbers"),
        (["--layers", "9"], "layer 9 is out of range"),
        (["--layers", "1,2", "-o", "c.safetensors"], r"several layers need \{layer\}"),
        (["--text", "absent.txt"], "cannot read the corpus"),
        (["--max-tokens", "0"], "1 or more"),
        (["--row-length", "999"], "more than the 128"),
        (["--ridge", "much"], "--ridge must be"),
        (["--import-npz", "absent.npz"], "there is no statistics file"),
        (["--merge", "a.safetensors"], "there is no second moment file"),
        (["-o", "/nowhere/at/all"], "there is no directory"),
    ],
)
def test_mistakes_are_user_errors(
    change: list[str], complaint: str, files: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=complaint):
        main([*words(files, tmp_path / "c-{layer}.safetensors"), *change])
    assert not list(tmp_path.iterdir())


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from diag.covariance.command import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'transformers', 'pandas', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
