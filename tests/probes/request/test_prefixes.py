"""Sampled prefixes: the published scheme, the same draws with a cache as without, kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from probes.forward.bridge import Bridge
from probes.forward.engine import Engine, engine_for
from probes.forward.generate import continuations
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request import prefixes
from rome_diagnosis.errors import UserError
from tests import tiny


def drawn(engine: Engine, start: prefixes.Start, seed: int, n: int = 20) -> list[list[int]]:
    return prefixes.draw(engine, prefixes._starts(engine.model, start), n=n, seed=seed)


def test_the_bundled_model_draws_the_same_without_a_cache(bundled_model: LoadedModel) -> None:
    cached, whole = engine_for(bundled_model), Bridge(bundled_model)
    draws = [drawn(cached, "end_of_text", seed) for seed in range(8)]
    assert draws == [drawn(whole, "end_of_text", seed) for seed in range(8)]
    assert len({str(rows) for rows in draws}) == 8  # the control: a seed decides


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize("start", ["end_of_text", "words"])
def test_every_architecture_draws_the_same_without_a_cache(
    name: str, start: prefixes.Start, tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name)
    for seed in (0, 1):
        rows = drawn(engine_for(model), start, seed, n=7)
        assert rows == drawn(Bridge(model), start, seed, n=7)
        assert [len(row) for row in rows] == [5] * 4 + [10] * 3


def test_all_lengths_grow_in_step_by_the_draws_of_one_generator(
    bundled_model: LoadedModel,
) -> None:
    """As published: part after part, and within a part the shorter starts catch up first."""
    engine, lengths = engine_for(bundled_model), (4, 9, 6)
    starts = [[5, 6, 7], [8], [9]]
    generator = torch.Generator().manual_seed(2)
    expected = []
    for count, length in zip((3, 2, 2), lengths, strict=True):
        part = [list(starts[i]) for i in range(count)]
        for rows, goal in ((part[1:], 3), (part, length)):
            added = continuations(
                engine,
                rows,
                goal - len(rows[0]),
                top_k=prefixes.TOP_K,
                generators=[generator] * len(rows),
            )
            for row, tokens in zip(rows, added, strict=True):
                row += tokens
        expected += part
    assert prefixes.draw(engine, starts, n=7, seed=2, lengths=lengths) == expected


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and nothing in memory."""
    monkeypatch.setenv("ROME_DIAGNOSIS_CACHE", str(tmp_path))
    monkeypatch.setattr(prefixes, "_drawn", {})
    return tmp_path


def test_a_draw_is_made_once(
    no_memory: Path, tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    texts = prefixes.sample(model, n=4, seed=3)
    (file,) = no_memory.iterdir()
    kept = json.loads(file.read_text())
    assert kept["texts"] == texts
    assert kept["model"] == "tiny-gpt2"
    assert kept["settings"]["fingerprint"] == model.fingerprint
    assert "torch" in kept["versions"]

    def never(*_: object, **__: object) -> list[list[int]]:
        raise AssertionError("drawn again")

    monkeypatch.setattr(prefixes, "draw", never)
    assert prefixes.sample(model, n=4, seed=3) == texts  # from memory
    prefixes._drawn.clear()
    assert prefixes.sample(model, n=4, seed=3) == texts  # from the file
    for other in ({"seed": 4}, {"n": 5}, {"seed": 3, "start": "words"}):
        with pytest.raises(AssertionError, match="drawn again"):
            prefixes.sample(model, **({"n": 4} | other))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: "{",
        lambda kept: json.dumps(kept | {"schema": "prefixes/0"}),
        lambda kept: json.dumps(kept | {"tokens": kept["tokens"][1:]}),
        lambda kept: json.dumps(kept | {"tokens": [[10**6], *kept["tokens"][1:]]}),
        lambda kept: json.dumps(kept | {"settings": kept["settings"] | {"seed": 9}}),
        lambda kept: json.dumps([kept]),
    ],
)
def test_a_damaged_file_is_drawn_again(
    spoil: Callable[[dict[str, object]], str],
    no_memory: Path,
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gpt2")
    texts = prefixes.sample(model, n=3)
    (file,) = no_memory.iterdir()
    sound = file.read_text()
    file.write_text(spoil(json.loads(sound)))
    prefixes._drawn.clear()
    assert prefixes.sample(model, n=3) == texts
    assert json.loads(file.read_text())["tokens"] == json.loads(sound)["tokens"]


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    no_memory: Path, tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prefixes.sample(tiny_model("gpt2"), n=3)
    prefixes._drawn.clear()
    (no_memory / "a file").write_text("")
    monkeypatch.setenv("ROME_DIAGNOSIS_CACHE", str(no_memory / "a file" / "folder"))
    assert prefixes.sample(tiny_model("gpt2"), n=3) == expected


def test_edited_weights_are_drawn_from_anew(
    no_memory: Path, tiny_dir: Callable[[str], Path]
) -> None:
    model = load(tiny_dir("gpt2"))
    before = prefixes.sample(model, n=6)
    with torch.no_grad():
        model.output_weight(1).mul_(-3)
    assert prefixes.sample(model, n=6) != before
    assert len(list(no_memory.iterdir())) == 2


def test_logits_that_are_not_finite_are_refused(
    no_memory: Path, tiny_dir: Callable[[str], Path]
) -> None:
    model = load(tiny_dir("gpt2"))
    prefixes.sample(model, n=2)
    with torch.no_grad():
        model.output_weight(2)[0, 0] = float("nan")
    with pytest.raises(UserError, match="not finite in float32"):
        prefixes.sample(model, n=2)


def test_sampled_contexts_repeat_and_differ_by_seed(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gpt2")
    one = prefixes.sample(model, n=7, seed=1)
    assert one == prefixes.sample(model, n=7, seed=1)
    assert one != prefixes.sample(model, n=7, seed=2)
    assert len(one) == 7
    assert all(prefix.endswith(". ") for prefix in one)
    assert prefixes.sample(model, n=0) == []
    with pytest.raises(UserError, match="0 or more"):
        prefixes.sample(model, n=-1)


def test_sampled_contexts_follow_the_published_scheme(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model = tiny_model("gpt2")
    rows = drawn(engine_for(model), "end_of_text", 0)
    assert [len(row) for row in rows] == [5] * 10 + [10] * 10  # the start counts as a token
    assert {row[0] for row in rows} == {model.tokenizer.bos_token_id}
    for row in rows[::5]:
        for i in range(1, len(row)):
            logits = model.bridge(torch.tensor([row[:i]]), return_type="logits")[0, -1]
            assert row[i] in logits[: len(model.tokenizer)].topk(5).indices
    words = prefixes.sample(model, n=10, seed=0, start="words")
    assert all(
        prefix.startswith(word)
        for prefix, word in zip(words, prefixes.START_WORDS * 2, strict=True)
    )


def test_given_contexts_stand_as_they_are() -> None:
    assert prefixes.given(["Well,", "So. ", "Line\n"]) == ["Well, ", "So. ", "Line\n"]
    with pytest.raises(UserError, match="is empty"):
        prefixes.given(["fine", " "])
    with pytest.raises(UserError, match="not valid Unicode"):
        prefixes.given(["\ud800"])
    # Two of the same say nothing of how far another draw would move ρ.
    with pytest.raises(UserError, match="given twice"):
        prefixes.given(["So.", "Well,", "So. "])
