"""Both published formats, as their authors write them; what would be read wrongly is refused."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from probes.target_value.hyperparameters import (
    KNOWN_NAMES,
    Hyperparameters,
    from_mapping,
    read_hyperparameters,
)
from rome_diagnosis.errors import UserError

ROME: dict[str, Any] = {
    "layers": [17],
    "fact_token": "subject_last",
    "v_num_grad_steps": 20,
    "v_lr": 0.5,
    "v_loss_layer": 47,
    "v_weight_decay": 0.5,
    "clamp_norm_factor": 3,
    "kl_factor": 0.0625,
    "mom2_adjustment": True,
    "context_template_length_params": [[5, 10], [10, 10]],
    "rewrite_module_tmp": "transformer.h.{}.mlp.c_proj",
}
EASY_EDIT = """
alg_name: "ROME"
model_name: "./hugging_cache/llama-2-7b"
device: 0
layers: [5]
fact_token: "subject_last"
v_num_grad_steps: 25
v_lr: 5e-1
v_loss_layer: 31
v_weight_decay: 1e-3
clamp_norm_factor: 4
kl_factor: 0.0625
mom2_adjustment: false
context_template_length_params: [[5, 10], [10, 10]]
"""


def test_rome_json(tmp_path: Path) -> None:
    path = tmp_path / "gpt2-xl.json"
    for mark in ("", "\ufeff"):
        path.write_text(mark + json.dumps(ROME), encoding="utf-8")
        assert read_hyperparameters(path) == Hyperparameters(layer=17, clamp_norm_factor=3.0)


def test_easy_edit_yaml(tmp_path: Path) -> None:
    path = tmp_path / "llama-7b.yaml"
    path.write_text(EASY_EDIT)
    assert read_hyperparameters(path) == Hyperparameters(
        layer=5, evaluations=25, learning_rate=0.5, weight_decay=1e-3,
        second_moment_adjustment=False, model_name="./hugging_cache/llama-2-7b",
    )  # fmt: skip


def test_left_out_fields_keep_their_defaults() -> None:
    assert from_mapping({}) == Hyperparameters()
    assert from_mapping({"v_lr": 0.1}).learning_rate == 0.1


@pytest.mark.parametrize("name", ["ROME", "R-ROME", "r_rome", "C-ROME"])
def test_editors_that_optimise_the_same_target_are_read(name: str) -> None:
    assert from_mapping(ROME | {"alg_name": name}).layer == 17


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"alg_name": "FT"}, "is for 'FT': hyper-parameters of ROME"),
        ({"alg_name": "MEMIT"}, "is for 'MEMIT'"),
        ({"alg_name": ["ROME"]}, "is for"),
        ({"fact_token": "last"}, "only subject_last"),
        ({"layers": [5, 6]}, "ROME edits one"),
        ({"layers": 5}, "ROME edits one"),
        ({"layers": ["five"]}, "expected int"),
        ({"v_lr": "fast"}, "expected float"),
        ({"v_lr": 1e300}, "learning_rate is 1e[+]300: it must be from 0 to 1e[+]06"),
        ({"v_lr": float("inf")}, "learning_rate is inf"),
        ({"v_num_grad_steps": 2.5}, "expected int"),
        ({"v_num_grad_steps": 0}, "evaluations is 0: it must be from 1"),
        ({"v_num_grad_steps": 10**4000}, "expected int"),
        ({"clamp_norm_factor": 0}, "must be above 0"),
        ({"kl_factor": float("nan")}, "kl_factor is nan"),
        ({"mom2_adjustment": 1}, "expected bool"),
        ({"context_template_length_params": [5]}, "pairs of length and number"),
        ({"context_template_length_params": [[5, "x"]]}, "pairs of length and number"),
    ],
)
def test_refusals(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        from_mapping(wrong)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(KNOWN_NAMES))
def test_every_known_name_is_known_and_mistyping_it_is_noticed(name: str) -> None:
    assert from_mapping({name: ROME.get(name)} if name in ROME else {}).unused == ()
    if len(name) > 5:
        for mistyped in (name[:-1], name + "s", name[:2] + name[3:], name.replace("_", "-", 1)):
            if mistyped not in KNOWN_NAMES:
                with pytest.raises(UserError, match="did you mean"):
                    from_mapping({mistyped: 1})


def test_names_that_nobody_knows_are_said_to_be_unused() -> None:
    chosen = from_mapping(ROME | {"evaluation_type": "LLM-judge", "api_key": "x"})
    assert chosen.unused == ("evaluation_type", "api_key")
    assert chosen.notes("gpt2-xl") == (
        "hyper-parameters that are not used: evaluation_type, api_key",
    )


def test_contexts_that_are_not_sampled_are_said_to_be_unused(tmp_path: Path) -> None:
    name = "context_template_length_params"
    for published in ([[5, 10], [10, 10]], [[0, 1], [10, 5]]):
        assert from_mapping(ROME | {name: published}).unused == ()
    (unused,) = from_mapping(ROME | {name: [[10, 2]]}).unused
    assert unused.startswith(name)
    for wrong in ([[-5, 10]], [[5, 0]]):
        with pytest.raises(UserError, match="lengths are from 0"):
            from_mapping({name: wrong})


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "twice.json").write_text('{"v_lr": 0.5, "v_lr": 0}')
    with pytest.raises(UserError, match="it has v_lr twice"):
        read_hyperparameters(tmp_path / "twice.json")


def test_another_model_s_file_is_warned_of() -> None:
    chosen = Hyperparameters(model_name="./hugging_cache/llama-2-7b")
    for same in ("meta-llama/Llama-2-7b-hf", "llama-2-7b", "/models/Llama_2_7b/"):
        assert chosen.notes(same) == ()
    (note,) = chosen.notes("openai-community/gpt2-xl")
    assert "those of ./hugging_cache/llama-2-7b, but openai-community/gpt2-xl is edited" in note
    assert Hyperparameters(model_name="gpt2").notes("gpt2-xl")
    assert Hyperparameters().notes("anything") == ()


def test_options_that_override_a_file_are_checked_too() -> None:
    with pytest.raises(UserError, match="clamp_norm_factor is inf"):
        dataclasses.replace(Hyperparameters(), clamp_norm_factor=float("inf"))


BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(12)
)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.yaml", "v_lr: [1", "neither JSON nor YAML"),
        ("a.yaml", "- 1", "has no hyper-parameters in it, but list"),
        ("a.yaml", "", "but nothing"),
        ("a.yaml", "!!python/object/apply:os.system ['touch /tmp/never']", "neither JSON nor YAML"),
        ("a.yaml", "v_lr: !!python/name:os.system", "neither JSON nor YAML"),
        ("a.yaml", BOMB, "aliases"),
        ("a.yaml", "v_lr: &x 1\nkl_factor: *x", "aliases"),
        ("a.yaml", "[" * 60_000, "too many brackets"),
        ("a.yaml", "- " * 30_000, "nested too deeply"),
        ("a.yaml", "? " * 30_000, "nested too deeply"),
        ("a.yaml", "a: " * 20_000, "neither JSON nor YAML"),
        ("a.yaml", "v_lr: " + "9" * 5000, "neither JSON nor YAML"),
        ("a.yaml", "v_num_grad_steps: 0x" + "f" * 5000, "expected int"),
        ("a.yaml", "v_lr: 2001-99-99", "neither JSON nor YAML"),
        ("a.yaml", "a: 1\n" * 20_000, "larger than 64 KiB"),
        ("a.json", '{"v_lr": ', "neither JSON nor YAML"),
        ("a.json", '{"a":' * 9_000, "nested too deeply"),
        ("a.json", '{"v_num_grad_steps": ' + "9" * 5000 + "}", "neither JSON nor YAML"),
        ("a.yaml", b"v_lr: \xe9", "not UTF-8"),
    ],
)
def test_a_broken_or_hostile_file_is_one_line(
    name: str, content: str | bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=complaint) as refused:
        read_hyperparameters(path)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400 + len(str(path))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero", tmp_path / "absent"):
        with pytest.raises(UserError, match="cannot read the hyper-parameter file"):
            read_hyperparameters(path)
