"""Both published formats, as their authors write them."""

from __future__ import annotations

import json

import pytest

from probes.target_value.hyperparameters import Hyperparameters, from_mapping, read
from rome_diagnosis.errors import UserError

ROME = {
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


def test_rome_json(tmp_path):
    path = tmp_path / "gpt2-xl.json"
    path.write_text(json.dumps(ROME))
    assert read(path) == Hyperparameters(layer=17, clamp_norm_factor=3.0)


def test_easy_edit_yaml(tmp_path):
    path = tmp_path / "llama-7b.yaml"
    path.write_text(EASY_EDIT)
    found = read(path)
    assert found == Hyperparameters(
        layer=5, evaluations=25, learning_rate=0.5, weight_decay=1e-3,
        second_moment_adjustment=False,
    )  # fmt: skip


def test_left_out_fields_keep_their_defaults():
    assert from_mapping({}) == Hyperparameters()
    assert from_mapping({"v_lr": 0.1}).learning_rate == 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"fact_token": "last"},
        {"layers": [5, 6]},
        {"layers": 5},
        {"v_lr": "fast"},
        {"v_num_grad_steps": 2.5},
        {"v_num_grad_steps": 0},
        {"clamp_norm_factor": 0},
        {"kl_factor": float("nan")},
        {"mom2_adjustment": 1},
        {"context_template_length_params": [5]},
    ],
)
def test_refusals(wrong):
    with pytest.raises(UserError):
        from_mapping(wrong)


def test_unreadable_files(tmp_path):
    (tmp_path / "broken.yaml").write_text("a: [1")
    (tmp_path / "list.yaml").write_text("- 1")
    for name in ("broken.yaml", "list.yaml", "absent.json"):
        with pytest.raises(UserError):
            read(tmp_path / name)
