"""First-token statistics of the bundled model against numpy and the plain Hugging Face model."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from probes import bundled
from probes.first_token import cells, separation, sinks
from probes.first_token.subjects import bundled_cases, measure_subjects
from probes.model.loaded import LoadedModel
from probes.request import prefixes as contexts
from probes.second_moment.choose import for_model
from rome_diagnosis.limits import SINK_NORM, SINK_QUERIES, SINK_SHARE

N_SUBJECTS = 40


def logistic_regression(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights and intercept that minimise ½‖w‖² + Σ log(1 + exp(−yᵢ(w·xᵢ + b))), by Newton."""
    design = np.hstack([x, np.ones((len(x), 1))])
    penalty = np.diag([*np.ones(x.shape[1]), 0.0])
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (chance - y) + penalty @ weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(weights)), gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            return weights
    raise AssertionError("Newton's method did not converge")


def area(scores: np.ndarray, y: np.ndarray) -> float:
    """Chance that a one outscores a zero, pair by pair."""
    pairs = [(a > b) + (a == b) / 2 for a in scores[y == 1] for b in scores[y == 0]]
    return float(np.mean(pairs))


def test_the_probe_at_the_edited_layer_is_a_logistic_regression(bundled_model: LoadedModel) -> None:
    layer = bundled.edit_layer()
    prefixes = contexts.sample(bundled_model, n=6)
    subjects, _ = measure_subjects(
        bundled_model, bundled_cases(), layer, prefixes, for_model(bundled_model, layer),
        count=N_SUBJECTS, pairs=1, first_only=True,
    )  # fmt: skip
    made = {c.name: c for c in cells.make(bundled_model, subjects, bundled.texts()[:40], prefixes)}
    keys = dict(cells.capture(bundled_model, list(made.values()), [layer]))[layer]
    seen = {}
    for one, other in (
        ("first_bare", "later_bare"),  # what the probe is for
        ("later_bare", "later_prefixed"),  # a pair that is hard to tell apart
    ):
        names = [made[one].members, made[other].members]
        found = separation.logistic_probe(keys[one], keys[other], names)
        assert found is not None
        x = np.concatenate([keys[one].numpy(), keys[other].numpy()])
        x = x - x.mean(0)
        x = x / np.sqrt((x**2).mean())
        y = np.repeat([0, 1], [len(keys[one]), len(keys[other])])
        distinct = sorted({*names[0], *names[1]})
        dealt = np.random.default_rng(0).permutation(len(distinct)) % found.n_folds
        fold = np.array([dealt[distinct.index(name)] for name in [*names[0], *names[1]]])
        areas = []
        for i in range(found.n_folds):
            weights = logistic_regression(x[fold != i], y[fold != i])
            areas.append(area(x[fold == i] @ weights[:-1] + weights[-1], y[fold == i]))
        assert found.auc == pytest.approx(np.mean(areas), abs=5e-3)
        assert found.null_mean == pytest.approx(0.5, abs=0.15)
        seen[one, other] = found.auc
    assert seen["first_bare", "later_bare"] > 0.99
    assert seen["later_bare", "later_prefixed"] < 0.95  # the control: not everything is told apart


def test_other_sinks_are_those_of_the_plain_model(bundled_model: LoadedModel) -> None:
    plain = AutoModelForCausalLM.from_pretrained(
        bundled.model_path(), attn_implementation="eager"
    ).eval()
    rows = [bundled_model.tokens(text).ids[:64] for text in bundled.texts()[:30]]
    with torch.no_grad():
        outs = [
            plain(torch.tensor([row]), output_attentions=True, output_hidden_states=True)
            for row in rows
        ]
    some = 0
    for found in sinks.measure_sinks(bundled_model, rows, range(bundled_model.n_layers)):
        patterns = [out.attentions[found.layer][0].double().numpy().mean(0) for out in outs]
        lengths = [
            np.linalg.norm(out.hidden_states[found.layer][0].double().numpy(), axis=1)
            for out in outs
        ]
        later = np.sort(np.concatenate([length[1:] for length in lengths]))
        typical = later[(len(later) - 1) // 2]  # torch's median is the lower of two middle values
        count: Counter[int] = Counter()
        for row, pattern, length in zip(rows, patterns, lengths, strict=True):
            for index in range(1, len(row)):
                received = pattern[index + 1 :, index]
                is_sink = len(received) >= SINK_QUERIES.value and received.mean() > SINK_SHARE.value
                if is_sink or length[index] > SINK_NORM.value * typical:
                    count[row[index]] += 1
        expected = {bundled_model.token_text(token): n for token, n in count.items()}
        assert {o.token: o.count for o in found.others}.items() <= expected.items()
        assert len(found.others) == min(len(expected), sinks.COORDINATES)
        shown = sorted((o.count for o in found.others), reverse=True)
        assert shown == sorted(expected.values(), reverse=True)[: len(shown)]
        some += len(expected)
    assert some > 0  # this model has other sinks: the comparison was not about nothing
