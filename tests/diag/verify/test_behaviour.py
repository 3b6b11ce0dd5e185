"""Portability: the prompts whose answers follow from the new fact, decoded greedily."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from diag.verify.behaviour import Behaviour, pooled
from probes import bundled
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase, Neighbour
from probes.request.request import request


def test_portability_is_what_greedy_decoding_gives(bundled_model: LoadedModel) -> None:
    plain = AutoModelForCausalLM.from_pretrained(bundled.model_path()).eval()
    tokenizer = AutoTokenizer.from_pretrained(bundled.model_path())
    tests, right = [], 0
    for i, fact in enumerate(bundled.facts()[::150]):
        prompt = fact["prompt"].replace("{}", fact["subject"])
        answer = fact["target_true"] if i % 3 else fact["target_new"]
        ids = tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            said = plain.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0]
        right += tokenizer.decode(said[len(ids) :]).startswith(f" {answer}")
        tests.append(Neighbour(prompt, answer))
    assert 0 < right < len(tests)
    case = EditCase(
        request("Apple", "{} was founded by", target_new="Paris", target_true="Steve Jobs"),
        paraphrases=("They say Apple comes from",),
        neighbourhood=(Neighbour("The river of France is the", "Seine"),),
        portability=(*tests, Neighbour("Without an answer")),
    )
    behaviour = Behaviour(bundled_model, case, {"bare": ""}, 1)
    found = behaviour.describe("bare", behaviour.after([]))
    share = right / len(tests)
    assert found["portability"] == {"before": share, "after": share, "n": len(tests)}
    assert found["locality"]["n"] == found["generalisation"]["n"] == 1


def test_shares_of_several_edits_are_pooled_over_their_prompts() -> None:
    one, other = {"before": 1.0, "after": 0.5, "n": 2}, {"before": 0.5, "after": 0.25, "n": 4}
    overflowed = {"before": 1.0, "after": None, "n": 5}
    assert pooled([one, None, other, overflowed]) == {"n": 6, "before": 4 / 6, "after": 2 / 6}
    assert pooled([None, overflowed]) is None
