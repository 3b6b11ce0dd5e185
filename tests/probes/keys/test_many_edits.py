"""Shared prefixes and trees of texts: they change no key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from probes.forward.gpt2 import prefix_tree
from probes.forward.gpt2.tree_keys import LaidTree
from probes.forward.unhooked import PaddedRows
from probes.keys import many_edits
from probes.keys.many_edits import SharedPrefixes
from probes.keys.one_edit import Keys, capture
from probes.model.bridge import wrap
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import Request, request
from rome_diagnosis.defaults import Engines
from rome_diagnosis.errors import UserError
from tests import oracle, tiny

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


def whole(model: LoadedModel, edits: list[Request], prefix: str) -> Keys:
    """Keys without anything shared."""
    return capture(model, [lookup(model, edit, prefix) for edit in edits], 2)


def worst(found: Tensor, expected: Keys) -> float:
    """The largest relative difference of keys."""
    apart = (found.double() - expected.keys).norm(dim=1)
    return float((apart / expected.keys.norm(dim=1)).max())


@pytest.mark.parametrize(
    ("name", "engine"), [("gpt2", "fast"), *((name, "general") for name in tiny.ARCHITECTURES)]
)
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
    name: str, engine: Engines, prefixes: list[str], tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model(name).run_by(engine)
    shared = SharedPrefixes(model, 2, prefixes)
    placed = shared.place(EDITS)
    assert not any(isinstance(at, UserError) for at in placed)
    # The positive control: it is the shared path that is held against the plain one.
    n_prefixed = sum(head > 0 for at in placed for head, _ in at.suffixes)
    assert n_prefixed >= len(EDITS) * min(len(prefixes), 2)
    for context, found in zip(["", *prefixes], shared.capture(placed).of().unbind(1), strict=True):
        assert worst(found, whole(model, EDITS, context)) <= 1e-5


@pytest.mark.parametrize("engine", ["fast", "general"])
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_any_block_of_a_float64_gpt2(
    layer: int, engine: Engines, tiny_dir: Callable[[str], Path]
) -> None:
    directory = str(tiny_dir("gpt2"))
    hub = transformers.AutoModelForCausalLM.from_pretrained(directory).double()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    model = wrap(hub, tokenizer, name="tiny", path=directory).run_by(engine)
    shared = SharedPrefixes(model, layer, PREFIXES)
    placed = shared.place(EDITS)
    for prefix, found in zip(["", *PREFIXES], shared.capture(placed).of().unbind(1), strict=True):
        expected = capture(model, [lookup(model, edit, prefix) for edit in EDITS], layer)
        assert worst(found, expected) <= 1e-12


def test_no_request_has_no_keys(tiny_model: Callable[[str], LoadedModel]) -> None:
    found = SharedPrefixes(tiny_model("gpt2"), 1, PREFIXES).capture([])
    assert found.of().shape[0] == 0


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_behind_a_key_nothing_but_the_output_projection_stands(
    name: str, tiny_model: Callable[[str], LoadedModel]
) -> None:
    # A mean of MLP outputs is therefore the output for the mean key.
    model = tiny_model(name)
    found = whole(model, EDITS, PREFIXES[0])
    mean = model.mlp_output(found.keys.mean(0), 2)
    assert torch.allclose(model.mlp_output(found.keys, 2), found.values, rtol=1e-5, atol=1e-6)
    assert torch.allclose(mean, found.values.mean(0), rtol=1e-5, atol=1e-6)


def test_a_key_is_the_hugging_face_model_s(
    tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = tiny_model("gpt2")
    shared = SharedPrefixes(model, 1, PREFIXES)
    placed = shared.place(EDITS)
    found = shared.capture(placed).of()[:, 4]
    for i in (0, 2, 5):
        ids = model.tokenizer(PREFIXES[3] + EDITS[i].before + EDITS[i].subject)["input_ids"]
        key, _ = oracle.key_and_value(tiny_dir("gpt2"), ids, 1)
        assert float((found[i] - key).norm() / key.norm()) <= 1e-5


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
    assert many_edits.splits_at_spaces(model.tokenizer)
    assert not many_edits.splits_at_spaces(tiny_model("llama").tokenizer)
    assert not many_edits.splits_at_spaces(tiny_model("qwen2").tokenizer)
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
def test_a_tree_holds_every_text_once_and_every_beginning_once(
    texts: list[tuple[int, ...]], nodes: int
) -> None:
    distinct = list(dict.fromkeys(texts))
    seen: list[int] = []
    for tree in prefix_tree.trees(distinct, nodes=nodes):
        seen += tree.rows
        beginnings = set()
        for row, last in zip(tree.rows, tree.last.tolist(), strict=True):
            path = tree.sees[last].nonzero()[:, 0]
            assert tuple(tree.ids[path].tolist()) == distinct[row]
            assert tree.depth[path].tolist() == list(range(len(path)))
            for i, node in enumerate(path):  # what each node sees is the path up to it
                assert torch.equal(tree.sees[node].nonzero()[:, 0], path[: i + 1])
            beginnings |= {distinct[row][:i] for i in range(1, len(path) + 1)}
        assert len(beginnings) == len(tree.ids) <= max(nodes, len(distinct[tree.rows[0]]))
    assert sorted(seen) == list(range(len(distinct)))


@pytest.mark.parametrize("engine", ["fast", "general"])
def test_a_batch_that_does_not_fit_is_halved(
    engine: Engines, tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2").run_by(engine)
    shared = SharedPrefixes(model, 2, PREFIXES)
    placed: Any = shared.place(EDITS)
    laid = LaidTree if engine == "fast" else PaddedRows
    run = laid.keys
    refused: list[int] = []

    def small_memory(self: Any, prefixes: Any) -> Any:
        if len(self.rows) * len(prefixes) > 1:
            refused.append(len(self.rows))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return run(self, prefixes)

    monkeypatch.setattr(laid, "keys", small_memory)
    for context, found in zip(["", *PREFIXES], shared.capture(placed).of().unbind(1), strict=True):
        assert worst(found, whole(model, EDITS, context)) <= 1e-5
    assert refused

    def broken(self: Any, prefixes: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(laid, "keys", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        shared.capture(placed)
