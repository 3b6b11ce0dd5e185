"""Several layers in one pass or more, parts, kills, processes: the same second moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diag.covariance.command import main
from probes.model.load import load
from probes.second_moment import choose, corpus_pass, estimate, stored
from probes.second_moment import cost as forecast
from probes.second_moment.moment import SecondMoment
from probes.second_moment.sums import Accumulator, token_shapes
from probes.text import corpus
from rome_diagnosis.errors import UserError
from tests.diag.covariance.words import ROOT, TEXTS, words


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
        choose.check_moment(moment, model, layer)


def test_killed_it_ends_with_the_very_same_moments(
    made: dict[int, SecondMoment], files: Path, tmp_path: Path
) -> None:
    script = (
        "import os, signal, sys\n"
        "from probes.second_moment import corpus_pass\n"
        "corpus_pass.PIECE_TOKENS = 256\n"
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
    (sums,) = checkpoint.iterdir()
    written = sums.read_bytes()
    for was, is_now in ((b'chunk\\": 3', b'chunk\\": 9'), (written[-8:], bytes(8))):
        assert was in written
        sums.write_bytes(written.replace(was, is_now))
        with pytest.raises(UserError, match=r"damaged \(it was changed after it was written"):
            main(words(files, output))
    sums.write_bytes(written)
    counted: list[int] = []
    feed = corpus_pass.feed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_pass, "feed", lambda *a, **k: (counted.append(1), feed(*a, **k)))
        assert main(words(files, output)) == 0
    assert not checkpoint.exists()
    chunks = -(-made[1].provenance.n_tokens // 256)
    assert len(counted) == chunks - 3
    for layer, moment in made.items():
        again = stored.load_moment(tmp_path / f"c-{layer}.safetensors")
        # The sums went on where they were: the difference is rounding between thread counts.
        assert float((again.moment - moment.moment).abs().max()) <= 1e-12
        assert again.provenance == moment.provenance
        assert torch.equal(again.background.first_keys, moment.background.first_keys)


def test_two_processes_are_one(made: dict[int, SecondMoment], files: Path, tmp_path: Path) -> None:
    script = tmp_path / "covariance.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from probes.second_moment import corpus_pass\n"
        "corpus_pass.PIECE_TOKENS = 256\n"
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
        both = stored.load_moment(tmp_path / f"c-{layer}.safetensors")
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
    both = stored.load_moment(tmp_path / "both.safetensors")
    expected = whole.total / whole.n_tokens
    assert torch.allclose(both.moment, (expected + expected.T) / 2, rtol=1e-12, atol=1e-14)
    assert both.provenance.n_tokens == whole.n_tokens
    assert both.provenance.position0_share == pytest.approx(whole.n_first / whole.n_tokens)
    with pytest.raises(UserError, match="are of the same text"):
        main(["--merge", parts[0], parts[0], "-o", str(tmp_path / "x.safetensors")])
    with pytest.raises(UserError, match="another layer"):
        main(["--merge", parts[0], str(files / "c-2.safetensors"), "-o", str(tmp_path / "x")])


def test_the_rule_shrinks_only_where_tokens_are_few(files: Path, tmp_path: Path) -> None:
    output = tmp_path / "c.safetensors"
    few = ["--max-tokens", "256"]
    assert main([*words(files, output, "1"), *few]) == 0
    shrunk = stored.load_moment(output)
    assert shrunk.least_ridge > 0 and shrunk.ridge == shrunk.least_ridge
    assert main([*words(files, output, "1"), *few, "--ridge", "none"]) == 0
    bare = stored.load_moment(output)
    assert bare.least_ridge == 0
    assert torch.equal(bare.moment, shrunk.moment)  # what was measured stays what was measured
    assert main([*words(files, output, "1"), "--ridge", "0.5"]) == 0
    half = stored.load_moment(output)
    assert half.ridge == pytest.approx(0.5 * float(half.moment.diagonal().mean()))
    solved = half.solve(half.moment[0])
    whole = half.moment + half.ridge * torch.eye(128, dtype=torch.float64)
    assert torch.allclose(whole @ solved, half.moment[0])


def test_all_layers_are_summed_in_passes_that_fit_into_memory(
    made: dict[int, SecondMoment], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def passes(memory: int) -> list[list[int]]:
        monkeypatch.setattr(forecast, "memory", lambda: memory)
        return forecast.groups(range(4), 128, halves=True)

    needed = forecast.needed(128, 2, halves=True)
    assert passes(4 * needed) == [[0, 1, 2, 3]]
    assert passes(1) == [[0], [1], [2], [3]]
    # Where three fit, two passes of two are better than of three and one.
    assert passes(2 * needed) == passes(2 * needed + 8 * 128**2) == [[0, 1], [2, 3]]
    output = tmp_path / "c-{layer}.safetensors"
    loud = [word for word in words(files, output, "all") if word != "--quiet"]
    assert main([*loud, "--json", str(tmp_path / "c.json")]) == 0
    assert "in 2 passes" in capsys.readouterr().err
    document = json.loads((tmp_path / "c.json").read_text())
    assert [layer["layer"] for layer in document["layers"]] == [0, 1, 2, 3]
    assert document["run"]["n_tokens"] == 2 * made[1].provenance.n_tokens
    for layer, moment in made.items():
        again = stored.load_moment(tmp_path / f"c-{layer}.safetensors")
        assert float((again.moment - moment.moment).abs().max()) <= 1e-12
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_run_killed_in_its_second_pass_resumes_there(
    files: Path, pieces: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "memory", lambda: 1)
    output = tmp_path / "c-{layer}.safetensors"
    feed, fed = corpus_pass.feed, []

    def counting(model: Any, sums: Any, *arguments: Any, **options: Any) -> None:
        fed.append(list(sums))
        if fed.count([2]) == 3:
            raise KeyboardInterrupt
        feed(model, sums, *arguments, **options)

    monkeypatch.setattr(corpus_pass, "feed", counting)
    with pytest.raises(KeyboardInterrupt):
        main([*words(files, output), "--checkpoint-every", "0"])
    first = fed.count([1])
    assert len(list(tmp_path.glob("*.checkpoint"))) == 2 and first > 3
    assert main(words(files, output)) == 0
    assert fed.count([1]) == first  # the first pass was not repeated
    assert fed.count([2]) == first + 1  # nor was anything before the interruption
    assert not list(tmp_path.glob("*.checkpoint"))
