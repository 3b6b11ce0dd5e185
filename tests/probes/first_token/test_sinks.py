"""Attention sinks of the bundled model against the plain Hugging Face model."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from probes import bundled
from probes.first_token import sinks
from probes.model.loaded import LoadedModel
from rome_diagnosis.limits import SINK_NORM, SINK_QUERIES, SINK_SHARE


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
