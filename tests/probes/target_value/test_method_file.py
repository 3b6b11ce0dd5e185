"""Files of the whole family as their authors write them; what would be read wrongly is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.method_file import MethodFile, defaults, from_mapping, read_method_file
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS

MEMIT: dict[str, Any] = {
    "layers": [13, 14, 15, 16, 17], "clamp_norm_factor": 0.75, "layer_selection": "all",
    "fact_token": "subject_last", "v_num_grad_steps": 20, "v_lr": 0.5, "v_loss_layer": 47,
    "v_weight_decay": 0.5, "kl_factor": 0.0625, "mom2_adjustment": True,
    "mom2_update_weight": 20000, "rewrite_module_tmp": "transformer.h.{}.mlp.c_proj",
    "mom2_n_samples": 100000, "mom2_dtype": "float32",
}  # fmt: skip
EMMET = MEMIT | {
    "layers": [17], "mom2_update_weight": 1000, "calculate_objective_value": False,
    "update_norm_lambda": 0, "emmet_lambda": 0.1,
}  # fmt: skip
ALPHAEDIT = MEMIT | {"model_name": "gpt2-xl", "nullspace_threshold": 2e-2, "L2": 10}
ENCORE = EMMET | {
    "layers": [4, 5], "mom2_update_weight": 15000, "update_norm_lambda": 10, "prob_cutoff": -3,
    "add_prev_edits": True, "use_gd": False, "norm_control": 0, "grad_desc_lr": 0.005,
    "spectral_norm": 2, "calculate_norms": False,
}  # fmt: skip
PMET = MEMIT | {
    "layers": [3, 4], "mom2_update_weight": 6000, "nll_loss_factor": 1, "kl_factor": 1,
    "rewrite_module_tmps": ["transformer.h.{}.mlp.fc_out"],
    "attn_module_tmp": "transformer.h.{}.attn.out_proj",
}  # fmt: skip
EASY_PMET = """
alg_name: "PMET"
model_name: "./hugging_cache/gpt-j-6B"
layers: [3, 4, 5]
v_num_grad_steps: 25
v_lr: 2e-1
kl_factor: 0.5
mom2_update_weight: 15000
rewrite_module_tmps: ["transformer.h.{}.mlp.fc_out"]
attn_module_tmp: "transformer.h.{}.attn.out_proj"
nll_loss_factor: 0.5
"""
EASY_EDIT = """
alg_name: "MEMIT"
model_name: "./hugging_cache/llama-7b"
layers: [4, 5, 6, 7, 8]
clamp_norm_factor: 4
layer_selection: "all"
fact_token: "subject_last"
v_num_grad_steps: 25
v_lr: 5e-1
v_loss_layer: 31
v_weight_decay: 1e-3
kl_factor: 0.0625
mom2_adjustment: true
mom2_update_weight: 15000
"""


def test_each_published_file_says_its_method_layers_and_parameters(tmp_path: Path) -> None:
    for values, method, layers, parameters in (
        (MEMIT, "memit", (13, 14, 15, 16, 17), {"weight": 20_000.0}),
        (EMMET, "emmet", (17,), {"weight": 1000.0, "damping": 0.1, "ridge": 0.0}),
        (ALPHAEDIT, "alphaedit", (13, 14, 15, 16, 17), {"threshold": 0.02, "l2": 10.0}),
        (PMET, "pmet", (3, 4), {"weight": 6_000.0}),
        (ENCORE, "encore", (4, 5), {"weight": 15_000.0, "ridge": 10.0}),
    ):
        path = tmp_path / f"{method}.json"
        path.write_text(json.dumps(values))
        found = read_method_file(path)
        assert (found.method, found.layers, found.parameters) == (method, layers, parameters)
        assert found.target.clamp_norm_factor == 0.75
        assert found.target.evaluations == 20
        assert found.target.unused == ()
        assert found.target.most_probable == (3 if method == "encore" else 0)


def test_easy_edits_yaml(tmp_path: Path) -> None:
    path = tmp_path / "llama.yaml"
    path.write_text(EASY_EDIT)
    found = read_method_file(path)
    assert (found.method, found.layers) == ("memit", (4, 5, 6, 7, 8))
    assert found.target.clamp_norm_factor == 4.0
    assert found.target.weight_decay == 1e-3
    assert found.target.model_name == "./hugging_cache/llama-7b"


def test_what_pmets_optimisation_needs(tmp_path: Path) -> None:
    path = tmp_path / "gpt-j.yaml"
    path.write_text(EASY_PMET)
    found = read_method_file(path)
    assert (found.method, found.parameters) == ("pmet", {"weight": 15_000.0})
    assert found.target == Hyperparameters(
        evaluations=25, learning_rate=0.2, clamp_norm_factor=0.75, kl_factor=0.5, nll_factor=0.5,
        leading_nll=0.1, leading_kl=0.01, layer=5, model_name="./hugging_cache/gpt-j-6B",
    )  # fmt: skip
    published = from_mapping(PMET).target
    assert (published.nll_factor, published.kl_factor, published.leading_nll) == (1.0, 1.0, 0.1)
    # What no file says is GPT-J's, and no other method's.
    assert (defaults("pmet").target.evaluations, defaults("pmet").target.kl_factor) == (30, 1.0)
    assert defaults("memit").target == Hyperparameters(clamp_norm_factor=0.75)
    assert METHODS["pmet"].sites == ("attention", "value")


def test_a_file_serves_methods_that_have_no_more_to_tune() -> None:
    for method in ("memit_seq", "pmet", "encore"):
        found = from_mapping(MEMIT, method)
        assert found.parameters["weight"] == 20_000.0
        assert found.layers == (13, 14, 15, 16, 17)
    assert from_mapping({"layers": [5], "v_lr": 0.5}, "c_rome").layers == (5,)
    assert from_mapping({"alg_name": "AlphaEdit"}).method == "alphaedit"


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_the_published_ones(method: str) -> None:
    found = defaults(method)
    assert found.parameters == METHODS[method].parameters
    assert found.target.clamp_norm_factor == METHODS[method].clamp
    assert found.layers == ()
    assert found.target.most_probable == (2 if method == "encore" else 0)


@pytest.mark.parametrize(
    ("values", "method", "message"),
    [
        (MEMIT, "rome", "is for memit, not for rome"),
        (MEMIT, "alphaedit", "is for memit, not for alphaedit"),
        (MEMIT | {"mom2_update_weigth": 3}, None, "did you mean mom2_update_weight"),
        (MEMIT | {"layers": [17, 13]}, None, "expected ascending ones"),
        (MEMIT | {"layers": []}, None, "expected a list of layers"),
        (MEMIT | {"mom2_update_weight": -1}, None, "must be from 0"),
        (MEMIT | {"mom2_update_weight": 0}, None, "give a λ above 0"),
        (MEMIT | {"mom2_update_weight": "many"}, None, "expected float"),
        (MEMIT | {"fact_token": "last"}, None, "only subject_last"),
        (ENCORE | {"prob_cutoff": 0.9}, None, "prob_cutoff in the file is 0.9: expected int"),
        (ENCORE | {"prob_cutoff": 1}, None, "a stop at a mean probability is not performed"),
        (ENCORE | {"use_gd": True}, None, "use_gd: True, which is not performed"),
        (ENCORE | {"add_prev_edits": False}, None, "add_prev_edits: False, which is not"),
        (PMET | {"rewrite_module_tmps": ["h.{}.attn", "h.{}.mlp"]}, None, "only the MLP's output"),
        (PMET | {"rewrite_module_tmps": 3}, None, "only the MLP's output"),
        (PMET | {"nll_loss_factor": 0}, None, "nll_factor is 0.0: it must be above 0"),
        (PMET | {"nll_loss_factor": -1}, None, "nll_factor is -1.0: it must be from 0"),
        ({"alg_name": "FT"}, None, "is for 'FT': known are rome"),
        ({"layers": [3, 4]}, "rome", "edits one layer, not 3, 4"),
        ({}, "mend", "there is no method 'mend'"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(
    values: dict[str, Any], method: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        from_mapping(values, method)


def test_a_parameter_of_another_method_is_refused() -> None:
    with pytest.raises(UserError, match="memit has no parameter l2: it has weight"):
        MethodFile(method="memit", parameters={"l2": 1.0})
