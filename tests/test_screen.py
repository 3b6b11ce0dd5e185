"""Screening: shared prefixes change no key, rows keep their order, nothing is lost or hidden."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diag import cases, dataset, screening
from diag.diagnosis import measure
from diag.screen import main, screen
from diag.screening import Screener
from probes import corpus, covariance, second_moment, shared_prefix, suffixes
from probes.errors import UserError
from probes.keys import capture
from probes.model import LoadedModel, load
from probes.second_moment import SecondMoment, of_moment
from probes.shared_prefix import ContextKeys, SharedPrefixes
from probes.subject import Request, lookup, request
from tests import oracle, tiny

ROOT = Path(__file__).parent.parent
PREFIXES = [
    "The weather was fine. ",
    "Therefore the river. ",
    "I. ",
    "Because they walked to the. ",
]
EDITS = [
    request("Apple", "{} was founded by"),
    request("Paris", "The capital, {} lies"),
    request("Danielle Darrieux", "The mother tongue of {} is"),
    request("Danielle Dar", "The mother tongue of {} is"),
    request("Apple", "{} is"),
    request("Space Needle", " The {} is in"),
    request("Paris", "{} is"),
]


def whole(model: LoadedModel, edits: list[Request], prefix: str) -> Any:
    """Keys without anything shared."""
    return capture(model, [lookup(model, edit, prefix) for edit in edits], 2)


def worst(found: ContextKeys, expected: Any) -> float:
    keys = found.keys[found.index].double() - expected.keys
    values = found.values[found.index].double() - expected.values
    return max(
        float((keys.norm(dim=1) / expected.keys.norm(dim=1)).max()),
        float((values.norm(dim=1) / expected.values.norm(dim=1)).max()),
    )


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize(
    "prefixes",
    [
        [*PREFIXES, PREFIXES[1], PREFIXES[0]],
        ["I. ", "It. ", "We. ", "A. "],  # of one length: run together
        [*PREFIXES[:2], "A line.\n", "Two  "],
        [],
    ],
)
def test_a_shared_prefix_changes_no_key(
    name: str, prefixes: list[str], tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name)
    shared = SharedPrefixes(model, 2, prefixes)
    placed = shared.place(EDITS)
    assert not any(isinstance(at, UserError) for at in placed)
    # The positive control: it is the shared path that is held against the plain one.
    behind = sum(head > 0 for at in placed for head, _ in at.suffixes)
    assert behind >= len(EDITS) * min(len(prefixes), 2)
    for context, found in zip(["", *prefixes], shared.capture(placed), strict=True):
        assert worst(found, whole(model, EDITS, context)) <= 1e-5


def test_the_bundled_kind_of_model_runs_packed_and_others_do_not(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    runners = {
        name: type(SharedPrefixes(tiny_model(name), 1, PREFIXES)._runner).__name__
        for name in ("gpt2", "gptj")
    }
    assert runners == {"gpt2": "PackedRunner", "gptj": "CachedRunner"}


def test_a_key_is_the_hugging_face_model_s(
    tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model("gpt2")
    shared = SharedPrefixes(model, 1, PREFIXES)
    placed = shared.place(EDITS)
    found = list(shared.capture(placed))[4]
    for i in (0, 2, 5):
        ids = model.tokenizer(PREFIXES[3] + EDITS[i].before + EDITS[i].subject)["input_ids"]
        key, _ = oracle.key_and_value(tiny_dir("gpt2"), ids, 1)
        assert float((found.keys[found.index[i]] - key).norm() / key.norm()) <= 1e-5


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    head=st.text(st.sampled_from("aT .,'s1é—\u3000\n"), min_size=1, max_size=12),
    tail=st.text(st.sampled_from("aT .,'s1é—\u3000\n"), max_size=12),
)
def test_texts_split_at_a_space_where_it_is_said_they_do(
    head: str, tail: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model("gpt2")
    assert shared_prefix.splits_at_spaces(model.tokenizer)
    assert not shared_prefix.splits_at_spaces(tiny_model("llama").tokenizer)
    assert not shared_prefix.splits_at_spaces(tiny_model("qwen2").tokenizer)
    if head[-1].isspace():
        return
    apart = model.tokens(head).ids + model.tokens(" " + tail).ids
    assert model.tokens(head + " " + tail).ids == apart


def test_texts_do_not_split_behind_white_space(tiny_model: Callable[[str], LoadedModel]) -> None:
    # Why the rule asks for a single space: here the pieces of the whole are others.
    model = tiny_model("gpt2")
    apart = model.tokens("fine. ").ids + model.tokens(" Apple").ids
    assert model.tokens("fine.  Apple").ids == apart
    assert model.tokens("fine. Apple").ids != model.tokens("fine. ").ids + model.tokens("Apple").ids


@given(
    texts=st.lists(
        st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple), min_size=1, max_size=30
    ),
    nodes=st.integers(1, 40),
)
def test_a_tree_holds_every_text_once_and_every_beginning_at_most_once(
    texts: list[tuple[int, ...]], nodes: int
) -> None:
    distinct = list(dict.fromkeys(texts))
    seen: list[int] = []
    for tree in suffixes.trees(distinct, nodes=nodes):
        seen += tree.rows
        beginnings = set()
        for row, path, length, last in zip(
            tree.rows, tree.table.tolist(), tree.lengths.tolist(), tree.last.tolist(), strict=True
        ):
            assert tuple(tree.ids[path[:length]].tolist()) == distinct[row]
            assert tree.depth[path[:length]].tolist() == list(range(length))
            assert path[length - 1] == last
            beginnings |= {distinct[row][:i] for i in range(1, length + 1)}
        assert torch.equal(tree.table.flatten()[tree.place], torch.arange(len(tree.ids)))
        assert len(beginnings) <= len(tree.ids) <= max(nodes, len(distinct[tree.rows[0]]))
    assert sorted(seen) == list(range(len(distinct)))


@pytest.mark.parametrize("name", ["gpt2", "gptj"])
def test_a_batch_that_does_not_fit_is_halved(
    name: str, tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(name)
    shared = SharedPrefixes(model, 2, PREFIXES)
    placed = shared.place(EDITS)
    runner = shared._runner
    refused: list[int] = []
    owner: Any = runner._blocks if name == "gpt2" else runner
    method = "run" if name == "gpt2" else "_forward"
    run = getattr(owner, method)

    def small_memory(batch: Any, past: Any, **options: Any) -> Any:
        rows = len(batch.rows) if name == "gpt2" else len(batch)
        if rows > 1:
            refused.append(rows)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return run(batch, past, **options)

    monkeypatch.setattr(owner, method, small_memory)
    for context, found in zip(["", *PREFIXES], shared.capture(placed), strict=True):
        assert worst(found, whole(model, EDITS, context)) <= 1e-5
    assert refused

    def broken(batch: Any, past: Any, **options: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(owner, method, broken)
    with pytest.raises(RuntimeError, match="shapes"):
        list(shared.capture(placed))


@pytest.fixture(scope="module")
def moment(tiny_model: Callable[[str], LoadedModel]) -> SecondMoment:
    """A second moment that float32 keys can be solved with: the tiny text has few directions."""
    return solvable(tiny_model("gpt2"), 2)


def solvable(model: LoadedModel, layer: int) -> SecondMoment:
    text = corpus.Corpus.of("test text", tiny.TRAINING_TEXT[:40])
    found = covariance.estimate(model, layer, text, row_length=32)
    assert found.moment is not None
    filled = found.moment + 1e-2 * torch.eye(found.d_mlp, dtype=torch.float64)
    return of_moment(
        filled, source="test", provenance=found.provenance, background=found.background
    )


@pytest.mark.parametrize("kind", ["corpus", "ridge", "identity"])
def test_a_row_is_what_the_diagnosis_of_that_one_edit_says(
    kind: str, tiny_model: Callable[[str], LoadedModel], moment: SecondMoment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model = tiny_model("gpt2")
    chosen = replace(moment) if kind != "identity" else SecondMoment.identity(moment.d_mlp)
    if kind == "ridge":
        monkeypatch.setattr(second_moment, "EPSILON", 1.0)
        monkeypatch.setattr(second_moment, "REGULAR_CONDITION", 20.0)
    assert (chosen.ridge > 0) == (kind == "ridge")
    found = Screener(SharedPrefixes(model, 2, PREFIXES), chosen).screen(EDITS)
    for edit, row in zip(EDITS, found, strict=True):
        assert isinstance(row, dict)
        alone = measure(model, edit, 2, PREFIXES, chosen, clamp=4.0, seed=0, sampled=False)
        for name, value in alone.to_pandas().iloc[0].to_dict().items():
            if name in ("subject", "prompt"):
                continue
            assert row[name] == (
                pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
            )
        assert (row["bound_rome"] is None) == (kind == "identity")


def test_the_verdict_is_softened_as_for_one_edit(
    tiny_model: Callable[[str], LoadedModel], moment: SecondMoment
) -> None:
    # A small clamp factor makes every bound small, so that only the contexts can speak against.
    model = tiny_model("gpt2")
    screener = Screener(SharedPrefixes(model, 2, PREFIXES), moment, clamp=1e-3)
    verdicts = set()
    for edit, row in zip(EDITS, screener.screen(EDITS), strict=True):
        alone = measure(model, edit, 2, PREFIXES, moment, clamp=1e-3, seed=0, sampled=False)
        assert isinstance(row, dict)
        assert row["verdict"] == alone.verdict
        verdicts.add(row["verdict"])
    assert "safe" in verdicts


def test_many_intervals_are_the_single_ones(moment: SecondMoment) -> None:
    from diag import update

    keys = torch.randn(5, 7, moment.d_mlp, dtype=torch.float64, generator=torch.manual_seed(3)) + 1
    white = moment.whiten(keys)
    many = update.ratio_intervals(white @ white.mT, seed=4)
    for one, interval in zip(keys, many.tolist(), strict=True):
        assert update.ratio_interval(one, moment, seed=4) == pytest.approx(tuple(interval))


def test_what_spares_an_edit_its_interval_is_true_of_it(moment: SecondMoment) -> None:
    from diag import update
    from diag.redrawn import Redraws

    generator = torch.Generator().manual_seed(5)
    shape = (200, 7, moment.d_mlp)
    keys = torch.randn(shape, dtype=torch.float64, generator=generator)
    keys += torch.randn(200, 1, moment.d_mlp, dtype=torch.float64, generator=generator) * 3
    white = moment.whiten(keys)
    low, high = update.ratio_intervals(white @ white.mT, seed=2).unbind(1)
    redraws = Redraws(moment, seed=2)
    # Something is spared far from the interval's end, or nothing would be won, and nothing beyond.
    for share, fewest, most in ((0.5, 150, 200), (0.8, 1, 199), (0.9, 1, 199), (1.01, 0, 0)):
        least = share * low.abs()
        certain = torch.tensor(redraws.stay_above(keys, least))
        assert bool((low[certain] > least[certain]).all())
        assert fewest <= int(certain.sum()) <= most, share
    assert bool((high > low).all())


def test_how_seldom_projections_hide_a_length() -> None:
    from scipy.stats import chi2

    from diag.redrawn import PROJECTIONS, SLACK

    assert chi2.cdf(PROJECTIONS / SLACK, PROJECTIONS) < 5e-9


ROME_RECORD = {
    "case_id": 12,
    "requested_rewrite": {
        "prompt": "{} was founded by", "subject": "Apple",
        "target_new": {"str": "Bill Gates"}, "target_true": {"str": "Steve Jobs"},
    },
    "paraphrase_prompts": ["Who founded Apple?"],
    "neighborhood_prompts": ["Paris lies on"],
}  # fmt: skip
EASYEDIT_RECORD = {
    "case_id": 0, "prompt": "The mother tongue of Danielle Darrieux is", "target_new": "English",
    "subject": "Danielle Darrieux", "ground_truth": "French",
}  # fmt: skip
ZSRE_RECORD = {"subject": "Paris", "src": "Where does Paris lie?", "alt": "Rome", "answers": ["x"]}


@pytest.mark.parametrize("kind", ["array.json", "packed.json", "lines.json", "lines.jsonl"])
def test_rome_easyedit_and_zsre_records_are_read(kind: str, tmp_path: Path) -> None:
    records = [ROME_RECORD, EASYEDIT_RECORD, ZSRE_RECORD]
    path = tmp_path / kind
    if kind.startswith("lines"):
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        path.write_text(json.dumps(records, indent=2 if kind == "array.json" else None))
    found = list(dataset.rows(path))
    edits = [dataset.edit(row.record) for row in found]
    assert [edit.subject for edit in edits] == ["Apple", "Danielle Darrieux", "Paris"]
    assert [edit.text for edit in edits] == [
        "Apple was founded by", "The mother tongue of Danielle Darrieux is",
        "Where does Paris lie?",
    ]  # fmt: skip
    assert [row.row for row in found] == [0, 1, 2]
    starts = [i for i, line in enumerate(path.read_text().splitlines(), 1) if line[:3] == "  {"]
    lines = {"array.json": starts, "packed.json": [1, 1, 1]}.get(kind, [1, 2, 3])
    assert [row.line for row in found] == lines
    assert [dataset.case_id(row.record) for row in found] == ["12", "0", None]
    for record in records:  # what is handed to diag.verify can be read there
        assert cases.from_record(dataset.for_verify(record)).request.subject


def test_csv_rows_and_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "edits.csv"
    path.write_text(
        'case_id,subject,prompt,target_new\n7,Apple,"{} was\nfounded by",X\n'
        "8,Paris\n9,Paris,{} is,Y\n",
        encoding="utf-8-sig",
    )
    found = list(dataset.rows(path))
    assert [(row.row, row.line) for row in found] == [(0, 2), (1, 4), (2, 5)]
    assert dataset.edit(found[0].record).text == "Apple was\nfounded by"
    assert found[1].error == "has 2 fields where the header has 4"
    assert dataset.edit(found[2].record).subject == "Paris"
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no columns subject and prompt"):
        list(dataset.rows(tmp_path / "no.csv"))


def test_a_long_array_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 7)
    records = [{"i": i, "text": "é" * i, "n": [1.5, i, {}]} for i in range(40)] + [12, 345, "six"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False), encoding="utf-8")
    assert [row.record for row in dataset.rows(path)] == records


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no rows"),
        ("[]", "holds no rows"),
        ('[{"a": 1},\n {"a": 2}', "at line 2: expected a comma or the end"),
        ('[{"a": 1},\n {"a": ', "at line 2: the record that begins there"),
        ('[{"a": 1},\n {"a": oops}]', "at line 2: the record that begins there"),
        ('[{"a": 1}\n {"a": 2}]', "at line 2: expected a comma"),
        ('[{"a": 1}] x', "something follows"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError, match=complaint):
        list(dataset.rows(path))


BAD_LINES = [
    '{"subject": "Apple", "prompt": "Pears are"}',
    '{"subject": 3, "prompt": "{} is"}',
    '{"subject": "Apple", "prompt":',
    "[1, 2]",
    '{"subject": "App", "prompt": "Apple is"}',
    '{"subject": "Apple", "prompt": "{} is", "case_id": "\\ud800", "target_new": "X"}',
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with mistakes in it, a tiny model and its second moment."""
    folder = tmp_path_factory.mktemp("screen")
    words = ["Apple", "Paris", "Danielle Darrieux", "Space Needle", "Steve Jobs", "Seattle"]
    good = [
        json.dumps({"case_id": i, "subject": word, "prompt": prompt, "target_new": "X"})
        for i, (word, prompt) in enumerate(
            (word, prompt)
            for prompt in ("{} is", "{} was founded by", "I think {} is", "The capital, {} lies")
            for word in words
        )
    ]
    lines = [*good[:3], BAD_LINES[0], *good[3:9], *BAD_LINES[1:4], *good[9:], *BAD_LINES[4:]]
    (folder / "edits.jsonl").write_text("\n".join(lines) + "\n")
    model = load(tiny.save("gpt2", folder / "model"))
    covariance.save(solvable(model, 1), folder / "c.safetensors")
    return folder


def words(files: Path, output: Path) -> list[str]:
    return [
        str(files / "edits.jsonl"), "-o", str(output), "--model", str(files / "model"),
        "--layer", "1", "--second-moment", str(files / "c.safetensors"), "--n-prefixes", "4",
    ]  # fmt: skip


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "diag.screen", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}, **options,
    )  # fmt: skip


def table(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(path).to_pylist())


@pytest.fixture(scope="module")
def screened(files: Path) -> Path:
    """The command, with every output."""
    done = run(
        *words(files, files / "out.parquet"), "--json", str(files / "out.json"),
        "--riskiest", str(files / "risky.jsonl"), "--n-riskiest", "5",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (files / "out.txt").write_text(done.stdout)
    return files / "out.parquet"


def test_the_table_keeps_the_contract_and_the_order(screened: Path, files: Path) -> None:
    import pyarrow.parquet as pq

    promised = (
        "row, case_id, subject, prompt, token, token_index, is_first_token, d_rome, d_c_rome, "
        "d_p_rome, rho, length_ratio, whitened_cosine, bound_rome, bound_c_rome, "
        "relative_bound_rome, verdict, error"
    )
    assert pq.read_schema(screened).names == promised.split(", ")
    rows = table(screened)
    lines = (files / "edits.jsonl").read_text().splitlines()
    assert [row["row"] for row in rows] == list(range(len(lines)))
    for row, line in zip(rows, lines, strict=True):
        if row["error"] is None:
            record = json.loads(line)
            assert row["subject"] == record["subject"]
            assert row["rho"] == pytest.approx(row["d_rome"] / row["d_c_rome"])
            assert row["rho"] == pytest.approx(row["length_ratio"] * row["whitened_cosine"])
            assert row["is_first_token"] == (row["token_index"] == 0)
    assert sum(row["is_first_token"] is True for row in rows) > 0
    assert not (files / "out.parquet.parts").exists()


def test_malformed_rows_are_named_with_their_line(screened: Path, files: Path) -> None:
    lines = (files / "edits.jsonl").read_text().splitlines()
    rows = table(screened)
    document = json.loads((files / "out.json").read_text())
    for bad in BAD_LINES[:5]:
        row = rows[lines.index(bad)]
        assert row["error"].startswith(f"line {lines.index(bad) + 1}: ")
        assert row["verdict"] is row["rho"] is None
        assert {"row": row["row"], "error": row["error"]} in document["errors"]
    assert document["summary"]["errors"] == 5
    assert rows[lines.index(BAD_LINES[5])]["error"] is None  # a strange case_id harms nothing
    assert document["summary"]["screened"] == len(lines) - 5
    assert "line 4: the subject 'Apple' is not in the prompt" in (files / "out.txt").read_text()


def test_refusing_happens_before_anything_is_made(files: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 4: the subject 'Apple' is not in the prompt"):
        main([*words(files, tmp_path / "out.parquet"), "--on-error", "refuse"])
    assert not list(tmp_path.iterdir())


def test_the_riskiest_cases_are_ready_to_be_verified(screened: Path, files: Path) -> None:
    found = cases.read(files / "risky.jsonl")
    assert not found.refused
    rows = [row for row in table(screened) if row["error"] is None]
    expected = sorted(rows, key=lambda row: -row["relative_bound_rome"])[:5]
    assert [case.request.subject for case in found.found] == [row["subject"] for row in expected]
    assert {case.request.target_new for case in found.found} == {"X"}


def test_shards_and_batches_change_nothing(
    screened: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screening, "LARGEST_SHARD", 7)
    monkeypatch.setattr(screening, "SHARD_BYTES", 0)
    monkeypatch.setitem(shared_prefix.NODES, "cpu", 5)
    monkeypatch.setattr("diag.screen_run.shard_size", lambda *_: 7)
    result = screen(
        str(files / "edits.jsonl"), str(tmp_path / "out.parquet"), model=load(files / "model"),
        layer=1, second_moment=str(files / "c.safetensors"), n_prefixes=4,
    )  # fmt: skip
    assert_same_rows(table(tmp_path / "out.parquet"), table(screened))
    assert len(result.to_pandas()) == result.document["summary"]["n"]
    assert "30 rows" in repr(result)
    assert "edits.jsonl" in result._repr_html_()


def assert_same_rows(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for row, other in zip(found, expected, strict=True):
        for name, value in other.items():
            same = pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
            assert row[name] == same, (row["row"], name)


def test_killed_it_goes_on(
    screened: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, signal, sys\n"
        "from diag import parts, screen_run\n"
        "screen_run.shard_size = lambda *_: 7\n"
        "write = parts.Parts.write\n"
        "def die(self, index, rows):\n"
        "    if index < 2: return write(self, index, rows)\n"
        "    self.path(index).with_suffix('.half').write_bytes(b'PAR1')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "parts.Parts.write = die\n"
        "from diag.screen import main\n"
        "main(sys.argv[1:])\n"
    )
    output = tmp_path / "out.parquet"
    killed = subprocess.run(
        [sys.executable, "-c", script, *words(files, output), "--quiet"],
        cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, timeout=300,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    waiting = {path.name for path in (tmp_path / "out.parquet.parts").iterdir()}
    assert waiting == {"settings.json", "000000.parquet", "000001.parquet", "000002.half"}
    monkeypatch.setattr("diag.screen_run.shard_size", lambda *_: 7)
    with pytest.raises(UserError, match=r"other settings \(prefixes\)"):
        main([*words(files, output)[:-1], "3", "--quiet"])
    summary = tmp_path / "out.json"
    assert main([*words(files, output), "--quiet", "--json", str(summary)]) == 0
    assert_same_rows(table(output), table(screened))
    assert json.loads(summary.read_text())["run"]["resumed"] == 14
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.parquet"]


def test_a_lost_part_is_noticed(files: Path, tmp_path: Path) -> None:
    from diag.parts import Parts

    parts = Parts(tmp_path / "t.parquet", {"a": 1})
    parts.write(0, [{"row": 0}, {"row": 1}])
    parts.write(1, [{"row": 3}])
    with pytest.raises(UserError, match="does not begin with row 2"):
        parts.merge([0, 1], 3)
    parts.write(1, [{"row": 2}])
    with pytest.raises(UserError, match="3 rows instead of 4"):
        parts.merge([0, 1], 4)
    parts.merge([0, 1], 3)
    assert [row["row"] for row in table(tmp_path / "t.parquet")] == [0, 1, 2]


def test_two_processes_give_the_rows_of_one(screened: Path, files: Path, tmp_path: Path) -> None:
    script = tmp_path / "screen.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from diag import command, screen_run\n"
        "screen_run.shard_size = lambda *_: 7\n"
        "from diag.screen import main\n"
        "command.run(main)\n"
    )
    output = tmp_path / "out.parquet"
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(script), *words(files, output), "--json", str(tmp_path / "out.json"),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Verdicts") == 1
    found, expected = table(output), table(screened)
    assert [row["verdict"] for row in found] == [row["verdict"] for row in expected]
    for row, other in zip(found, expected, strict=True):
        for name, value in other.items():
            assert row[name] == (
                pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
            )
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["run"]["processes"] == 2
    assert document["run"]["measured"] == len(expected)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["nowhere.json"], "cannot read the data set nowhere.json"),
        (["{edits}", "-o", "/nowhere/at/all.parquet"], "there is no directory"),
        (["{edits}", "--clamp-factor", "0"], "clamp factor must be above 0"),
        (["{edits}", "--layer", "9"], "layer 9 is out of range"),
        (["{edits}", "--n-riskiest", "-1"], "0 or more"),
    ],
)
def test_mistakes_are_one_line_and_code_two(
    change: list[str], complaint: str, files: Path, tmp_path: Path
) -> None:
    first, *rest = (word.replace("{edits}", str(files / "edits.jsonl")) for word in change)
    with pytest.raises(UserError, match=complaint):
        main([first, *words(files, tmp_path / "out.parquet")[1:], *rest, "--quiet"])


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from diag.screen import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'transformers', 'pyarrow', 'pandas', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "DATASET" in done.stdout
