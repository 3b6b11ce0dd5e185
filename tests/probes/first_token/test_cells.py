"""Cells, sinks and projections against numpy and the plain Hugging Face model."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from transformers import AutoModelForCausalLM

from probes.first_token import cells, projection, sinks
from probes.first_token import subjects as subject_set
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from rome_diagnosis.errors import UserError
from tests import oracle
from tests.probes.first_token import probing

LAYER = 2
TEXTS = [
    "The weather was fine and they walked to the river because of it.",
    "Paris lies on the Seine. They read that Apple was founded in California.",
    "Because the capital of France is Paris, I think you should read this.",
]


def test_cells_hold_the_keys_they_say(
    tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path]
) -> None:
    model = tiny_model("gpt2")
    subjects = probing.measured(model, LAYER)
    made = {cell.name: cell for cell in cells.make(model, subjects, TEXTS, probing.PREFIXES)}
    keys = dict(cells.capture(model, list(made.values()), [1, LAYER]))
    subject = subjects[1]
    for layer in (1, LAYER):
        for name, ids in (
            ("first_bare", subject.lookups[0].ids),
            ("first_prefixed", [*subject.pairs[0].prefix, *subject.pairs[0].spaced]),
            ("later_bare", lookup(model, subject.case.later).ids),
            ("later_prefixed", lookup(model, subject.case.later, probing.PREFIXES[1]).ids),
            ("ordinary_first", model.tokens(TEXTS[1]).ids[:1]),
            ("ordinary_later", model.tokens(TEXTS[1]).ids[: cells.ORDINARY_INDEX + 1]),
        ):
            expected, _ = oracle.key_and_value(tiny_dir("gpt2"), ids, layer)
            found = keys[layer][name][1]
            assert float((found - expected).norm() / expected.norm()) < 1e-5, name
    # The factor is what it says: the later prompt's subject does not stand first.
    assert all(run.read > 0 for run in made["later_bare"].runs)
    assert made["first_bare"].runs[0].read == 0


def test_statistics_equal_numpy(tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model("gpt2")
    subjects = probing.measured(model, LAYER)
    made = cells.make(model, subjects, TEXTS, probing.PREFIXES)
    keys = dict(cells.capture(model, made, [LAYER]))[LAYER]
    metric = probing.moment(int(model.config.d_mlp))
    one, other = made[0], made[1]
    x, y = keys[one.name].numpy(), keys[other.name].numpy()
    inverse = np.linalg.inv(metric.moment.numpy())
    found = cells.describe_cells(keys[one.name], metric)
    lengths = np.sqrt((x**2).sum(1))
    assert found.n == len(x)
    assert found.norm == pytest.approx(lengths.mean(), rel=1e-10)
    assert found.norm_deviation == pytest.approx(lengths.std(ddof=1), rel=1e-8)
    whitened = np.sqrt(np.einsum("ni,ij,nj->n", x, inverse, x))
    assert found.whitened_norm == pytest.approx(whitened.mean(), rel=1e-8)
    centred = x - x.mean(0)
    spread = np.einsum("ni,ij,nj->", centred, inverse, centred) / (len(x) - 1)
    assert found.whitened_spread == pytest.approx(spread / (whitened**2).mean(), rel=1e-8)
    pair = cells.compare_cells(one, other, keys, metric)
    a, b = x.mean(0), y.mean(0)
    assert pair.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-8)
    cosine = (a @ inverse @ b) / np.sqrt((a @ inverse @ a) * (b @ inverse @ b))
    assert pair.whitened_cosine == pytest.approx(cosine, rel=1e-8)
    assert pair.probe is None  # five subjects make no five folds
    assert cells.compare_cells(one, other, keys, None).whitened_cosine is None


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_sinks_are_those_of_the_plain_model(
    name: str, tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path]
) -> None:
    model = tiny_model(name)
    plain = AutoModelForCausalLM.from_pretrained(tiny_dir(name), attn_implementation="eager")
    texts = [model.tokens(text).ids for text in TEXTS]
    with torch.no_grad():
        outs = [
            plain(torch.tensor([ids]), output_attentions=True, output_hidden_states=True)
            for ids in texts
        ]
    for found in sinks.measure_sinks(model, texts, range(model.n_layers)):
        patterns = [out.attentions[found.layer][0].double().numpy() for out in outs]
        streams = [out.hidden_states[found.layer][0].double().numpy() for out in outs]
        heads = np.mean([p[:, 1:, 0].mean(1) for p in patterns], axis=0)
        assert found.attention_to_first == pytest.approx(heads.mean(), rel=1e-4)
        assert found.sink_rate == pytest.approx((heads > 0.3).mean())
        first = np.array([s[0] for s in streams])
        later = np.concatenate([np.linalg.norm(s[1:], axis=1) for s in streams])
        assert found.length_first == pytest.approx(np.linalg.norm(first, axis=1).mean(), rel=1e-4)
        # torch's median is the lower of two middle values.
        assert found.length_later == pytest.approx(np.sort(later)[(len(later) - 1) // 2], rel=1e-4)
        middle = np.sort(np.abs(first), axis=1)[:, (first.shape[1] - 1) // 2]
        if found.massive_first is not None:
            massive = (np.abs(first).max(1) / middle).mean()
            assert found.massive_first == pytest.approx(massive, rel=1e-3)
        top = found.coordinates[0]
        assert top.index == int(np.abs(first).mean(0).argmax())
        share = (first[:, top.index] ** 2).sum() / (first**2).sum()
        assert top.share == pytest.approx(share, rel=1e-4)


def test_a_planted_sink_is_found_and_its_coordinate_named() -> None:
    random = torch.Generator().manual_seed(0)
    streams = torch.randn(20, 16, dtype=torch.float64, generator=random)
    streams[:, 11] += 100
    assert sinks.carriers(streams)[0].index == 11
    assert sinks.carriers(streams)[0].share > 0.99
    kept = sinks._Sums(
        torch.zeros(1), [], [torch.tensor([50.0, 1.0, 1.0, 9.0])],
        [torch.ones(4)], [torch.tensor([0.1, 0.0, 0.6, 0.0])],
    )  # fmt: skip

    class Names:
        def token_text(self, token: int) -> str:
            return f"t{token}"

    others = sinks._others(Names(), kept, [[7, 8, 9, 10]], 1.0)
    assert {(o.token, o.index) for o in others} == {("t9", 2), ("t10", 3)}
    with pytest.raises(ValueError, match="two tokens"):
        sinks.measure_sinks(None, [[1]], [0])


def test_projections_are_principal_components_and_repeat(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gpt2")
    subjects = probing.measured(model, LAYER)
    metric = probing.moment(int(model.config.d_mlp))
    one, again = (projection.keys(subjects, seed=1) for _ in range(2))
    assert one == again
    assert [point.kind for point in one.points] == ["unprefixed"] * 5 + ["prefixed"] * 5
    x = torch.stack([s.keys[0] for s in subjects] + [
        s.keys[1 + i % 3] for i, s in enumerate(subjects)
    ]).numpy()  # fmt: skip
    reference = PCA(2).fit(x)
    expected = np.abs(reference.transform(x))
    assert np.allclose(np.abs([point.pca for point in one.points]), expected, atol=1e-8)
    assert one.explained == pytest.approx(tuple(reference.explained_variance_ratio_))
    assert all(point.tsne is not None for point in one.points)
    few = projection.directions(subjects, metric)
    assert all(point.tsne is None for point in few.points)  # five points make no t-SNE
    assert few.points[0].rho == subjects[0].rho


def test_subjects_that_cannot_be_compared_are_skipped_with_a_reason(
    tiny_model: Callable[[str], LoadedModel], tmp_path: Path
) -> None:
    model = tiny_model("gpt2")
    metric = probing.moment(int(model.config.d_mlp))
    kept, skipped = subject_set.measure_subjects(model, probing.CASES, 1, probing.PREFIXES, metric)
    assert {s.case.subject for s in kept} | {s.subject for s in skipped} == set(probing.NAMES)
    assert "Danielle Darrieux" in {s.subject for s in skipped}
    assert "not the first" in next(s.reason for s in skipped if s.subject == "Apple Paris")
    assert all(len(subject.pairs[0].bare) == 1 for subject in kept)
    with pytest.raises(UserError, match="can be probed"):
        subject_set.measure_subjects(model, probing.CASES[-1:], 1, probing.PREFIXES, metric)
    with pytest.raises(UserError, match="at least 1 prefix"):
        subject_set.measure_subjects(model, probing.CASES, 1, [], metric)
    lines = tmp_path / "subjects.txt"
    lines.write_text("Apple\n\nThe Hague\n", encoding="utf-8")
    first, second = subject_set.read_subjects(lines)
    assert (first.first.text, second.first.text) == ("Apple is", "The Hague is")
    assert first.later.text == "The story of Apple is"
    record = '{"subject": "Paris", "prompt": "{} lies on"}'
    for name, text in (("a.jsonl", record), ("b.json", f"[{record}]")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (only,) = subject_set.read_subjects(tmp_path / name)
        assert (only.first.text, only.later.text) == ("Paris lies on", "The story of Paris is")
    for text, complaint in (
        ("{bad", "line 1"), ("\n", "no subjects"), ('{"a": 1}', "line 1"), ('["a"]', "line 1"),
        (f"Apple\n{record}", "line 2: a record among names"),
    ):  # fmt: skip
        lines.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=complaint):
            subject_set.read_subjects(lines)


def test_keys_that_wait_on_disk_are_the_same_and_each_text_is_run_once(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tiny_model("gpt2")
    made = cells.make(model, probing.measured(model, LAYER), TEXTS, probing.PREFIXES)
    in_memory = dict(cells.capture(model, made, [0, 1, LAYER]))
    counts: list[int] = []
    everywhere = cells.keys_everywhere

    def counted(model: LoadedModel, runs: Any, layers: Any) -> Any:
        counts.append(len(runs))
        return everywhere(model, runs, layers)

    monkeypatch.setattr(cells, "keys_everywhere", counted)
    monkeypatch.setattr(cells, "KEYS_AT_ONCE", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    on_disk = dict(cells.capture(model, made, [0, 1, LAYER]))
    assert len(counts) > 1 and sum(counts) == sum(len(cell.runs) for cell in made)
    gc.collect()
    assert not [*tmp_path.iterdir()]
    for layer, by_cell in in_memory.items():
        for name, keys in by_cell.items():
            torch.testing.assert_close(on_disk[layer][name], keys, rtol=1e-5, atol=1e-6)
