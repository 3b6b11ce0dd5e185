"""The harness on the model in memory gives the harness's own numbers, offline, and leaves no trace.

``python -m benchmarks.harness`` compares with its own command in a process of its own.
"""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.harness import PREFIX, native
from probes import bundled
from probes.edited.weights import Total
from probes.forward.unhooked import plain
from probes.model.fingerprint import fingerprint
from probes.model.loaded import LoadedModel
from probes.tasks import harness
from probes.tasks.harness import Harness, Tasks, TaskScore
from probes.tasks.meter import TaskMeter, compared
from rome_diagnosis.errors import UserError

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed: [tasks]")
LIMIT = 12
LAYER = bundled.edit_layer()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each published form, about the bundled world."""
    folder = tmp_path_factory.mktemp("tasks")
    facts = bundled.facts()[: 2 * LIMIT]
    texts = [fact["prompt"].format(fact["subject"]) for fact in facts]
    pairs = [[fact["target_new"], fact["target_true"]] for fact in facts]
    records = {
        "choice": [
            {"query": t, "choices": p, "gold": 1} for t, p in zip(texts, pairs, strict=True)
        ],
        "schema": [
            {"context_options": [f"{a}.", f"{b}."], "continuation": t, "gold": i % 2}
            for i, (t, (a, b)) in enumerate(zip(texts, pairs, strict=True))
        ],
        "last": [{"context": t, "continuation": p[1]} for t, p in zip(texts, pairs, strict=True)],
    }
    for name, rows in records.items():
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return {name: folder / f"{name}.jsonl" for name in records}


def test_scores_are_those_of_the_harness_itself(
    bundled_model: LoadedModel, written: dict[str, Path], tmp_path: Path
) -> None:
    """What its command calls, on a model it loads by itself and files it reads by itself."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    for path in written.values():
        native(path, tmp_path)
    own = [str(path) for path in harness.OWN.glob("*.yaml")]
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(bundled.model_path()), "dtype": "float32", "device": "cpu"},
        tasks=[*own, *map(str, tmp_path.glob("*.yaml"))],
        task_manager=TaskManager(include_defaults=False),
        batch_size=4,
        limit=LIMIT,
    )["results"]

    tasks = Tasks.read(["bundled", *map(str, written.values())], limit=LIMIT)
    ours = Harness(bundled_model, tasks).scores()
    for name, score in ours.items():
        reported = theirs[name if name in theirs else PREFIX + name]
        assert score.value == reported[f"{score.metric},none"], name
        assert score.stderr == reported[f"{score.metric}_stderr,none"], name
        assert score.n == LIMIT
    assert ours["choice"].others["acc_norm"][0] == theirs[f"{PREFIX}choice"]["acc_norm,none"]
    assert len({score.value for score in ours.values()}) > 2  # not all alike for a poor reason


@torch.no_grad()
def test_a_schema_compares_contexts(bundled_model: LoadedModel, written: dict[str, Path]) -> None:
    """Winogrande's form, recomputed with the Hugging Face model alone."""
    (task,) = Harness(bundled_model, Tasks.read(str(written["schema"]))).scores().values()
    right = []
    for line in written["schema"].read_text().splitlines():
        record = json.loads(line)
        scores = []
        for context in record["context_options"]:
            start = bundled_model.tokenizer(context)["input_ids"]
            ids = bundled_model.tokenizer(f"{context} {record['continuation']}")["input_ids"]
            logits = plain(bundled_model).model(torch.tensor([ids])).logits[0].log_softmax(-1)
            scores.append(sum(float(logits[i - 1, ids[i]]) for i in range(len(start), len(ids))))
        right.append(float(scores[record["gold"]] == max(scores)))
    assert task.documents == tuple(right)
    assert 0 < task.value < 1


def test_an_edit_changes_scores_and_leaves_no_trace(bundled_model: LoadedModel) -> None:
    before = fingerprint(bundled_model.state_dict)
    padding = bundled_model.tokenizer.pad_token
    meter = TaskMeter(bundled_model, LAYER, Tasks.read(limit=LIMIT))
    nothing = Total(
        torch.zeros(bundled_model.config.d_mlp, bundled_model.config.d_model, dtype=torch.float64)
    )
    noise = torch.randn(nothing.matrix.shape, generator=torch.Generator().manual_seed(0)).double()
    for name, change in meter.after([nothing]).items():
        assert change["before"] == change["after"] == meter.before[name].value
        assert change["change_stderr"] == 0
    ruined = meter.after([Total(noise)])
    assert sum(change["after"] - change["before"] for change in ruined.values()) < -1
    assert fingerprint(bundled_model.state_dict) == before
    assert bundled_model.tokenizer.pad_token == padding
    assert meter.after([nothing])["bundled_cloze"]["after"] == meter.before["bundled_cloze"].value


def test_nothing_reaches_for_a_network(
    bundled_model: LoadedModel, written: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    tasks = Tasks.read(["bundled", str(written["last"].parent)], limit=2)
    assert len(Harness(bundled_model, tasks).scores()) == 6


def test_the_error_of_a_change_is_that_of_its_pairs() -> None:
    def score(*documents: float) -> TaskScore:
        return TaskScore(
            "acc", sum(documents) / len(documents), None, len(documents), documents, {}
        )

    same = compared(score(1, 0, 1, 0), score(0, 1, 0, 1))
    assert same["before"] == same["after"] == 0.5
    # Differences −1, 1, −1, 1: their variance is 4/3, that of their mean a quarter of it.
    assert same["change_stderr"] == pytest.approx((1 / 3) ** 0.5)
    unpaired = compared(score(1, 0), TaskScore("ppl", 3.0, None, 2, (), {}))
    assert unpaired["change_stderr"] is None


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nosuchtask", "there is no task 'nosuchtask': give bundled, a file"),
        ("missing.jsonl", "missing.jsonl"),
        ("missing.yaml", "there is no task file missing.yaml"),
    ],
)
def test_an_unknown_task_is_one_line(
    name: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=complaint):
        Tasks.read(name)


def test_what_cannot_be_meant_is_refused(tmp_path: Path, written: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="there is no task in"):
        Tasks.read(str(tmp_path))
    with pytest.raises(UserError, match="two tasks are called last"):
        Tasks.read([str(written["last"])] * 2)
    with pytest.raises(UserError, match="must be 1 or more, not 0"):
        Tasks.read(limit=0)
    broken = tmp_path / "broken.yaml"
    broken.write_text("task: broken\noutput_type: nonsense\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot load the task .*broken\.yaml: .*nonsense"):
        Tasks.read(str(broken))


def test_a_token_the_tokenizer_does_not_put_there_is_refused(bundled_model: LoadedModel) -> None:
    with pytest.raises(UserError, match="leave --bos out"):
        Harness(replace(bundled_model, bos=True), Tasks.read(limit=1))


def test_without_the_harness_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"pip install 'rome-diagnosis\[tasks\]'"):
        Tasks.read()
