"""A model with edits: measured, and written with the record that takes them back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from diag.judgement import outcome
from diag.mathematics.update import RankOne
from diag.saved import record
from diag.saved.choice import Choice
from diag.saved.result import Applied
from diag.verify.behaviour import Behaviour, pooled
from diag.verify.one_edit import Bench
from probes.edited.weights import edited, save_edited
from probes.forward.generate import generate
from probes.forward.unhooked import plain
from probes.model.loaded import describe_model
from probes.request.cases import EditCase
from rome_diagnosis import envelope, limits

# Behaviour is asked of at most 50 edits of a list: each costs a pass over its prompts.
MOST_ASKED = 50
# At most 10 edits of a list are continued, both ways, by 20 tokens.
MOST_CONTINUED, WRITTEN_TOKENS = 10, 20


def save(
    bench: Bench,
    cases: Sequence[EditCase],
    choices: Sequence[Choice],
    changes: Sequence[RankOne],
    *,
    output: str | os.PathLike[str],
) -> Applied:
    """Saves a model with edits, measured, and with the record that takes them back.

    Args:
        bench: The unedited model and what is measured on it.
        cases: The edits, in order.
        choices: The editor of each, and what the diagnosis says of it.
        changes: Their updates.
        output: Directory for the edited model.

    Returns:
        What was done.

    Raises:
        UserError: If the model cannot be written.
    """
    model, layer = bench.model, bench.layer
    unwrapped = plain(model)
    name = unwrapped.weight_name(layer)
    original = unwrapped.model.state_dict()[name].detach().clone()
    with edited(model, changes, layer):
        changed = unwrapped.model.state_dict()[name].detach().clone()
    measured = _measure(bench, cases, choices, changes)
    difference = changed.double() - original.double()
    document = envelope.plain(
        {
            **envelope.head(record.SCHEMA, None),
            "model": describe_model(model),
            "site": {"layer": layer, "hook": model.hook(layer, "key")},
            "second_moment": bench.moment.describe(model.computed_in),
            "weight": name,
            "relative_norm": float(difference.norm() / original.double().norm()),
            "original_digest": record.digest(original),
            "edited_digest": record.digest(changed),
            "limits": limits.of_verdicts(),
            "collapse_ratio": bench.settings.collapse_ratio,
            **measured,
        }
    )
    tensors = {record.ORIGINAL: original}
    for i, change in enumerate(changes):
        tensors |= {f"u.{i}": change.u.clone(), f"r.{i}": change.r.clone()}
    save_edited(
        model,
        changes,
        layer,
        output,
        beside=lambda folder: record.write_record(folder, document, tensors),
    )
    return Applied(document, os.fspath(output))


def _measure(
    bench: Bench,
    cases: Sequence[EditCase],
    choices: Sequence[Choice],
    changes: Sequence[RankOne],
) -> dict[str, Any]:
    """What became of the model, and of each of the edits, after all of them."""
    perplexity = bench.perplexity(changes)
    recall = bench.recall.after(changes, without={case.request.subject for case in cases})
    edits: list[dict[str, Any]] = []
    for case, choice in zip(cases, choices, strict=True):
        edit = case.request
        written: dict[str, Any] = {
            "request": {
                "subject": edit.subject,
                "prompt": edit.prompt,
                "target_new": edit.target_new,
                "target_true": edit.target_true,
            },
            **asdict(choice),
        }
        if len(edits) < MOST_ASKED:
            asked = Behaviour(bench.model, case, bench.wordings, bench.layer)
            replies = asked.after(changes)
            by_wording = {
                "bare": asked.describe("bare", replies),
                "prefixed": asked.describe("editing_prefix", replies),
            }
            written["after"] = {where: answers["efficacy"] for where, answers in by_wording.items()}
            written["locality"] = by_wording["bare"]["locality"]
        edits.append(written)
    for written, says in zip(edits, _written(bench, cases[:MOST_CONTINUED], changes), strict=False):
        written["says"] = says
    arm: Mapping[str, Any] = {
        "perplexity": perplexity,
        "recall": recall,
        "locality": pooled(edit.get("locality") for edit in edits),
    }
    judged = outcome.judge(arm, collapse_ratio=bench.settings.collapse_ratio)
    return {
        "edits": edits,
        "perplexity": perplexity,
        "recall": recall,
        "outcome": judged.outcome,
        "outcome_reasons": list(judged.reasons),
        "prefix": bench.wordings["editing_prefix"],
    }


def _written(
    bench: Bench, cases: Sequence[EditCase], changes: Sequence[RankOne]
) -> list[dict[str, Any]]:
    """What the model writes after each edited prompt, bare and prefixed, before and after."""
    texts = [case.request.text for case in cases]
    prompts = [*texts, *(bench.wordings["editing_prefix"] + text for text in texts)]
    before = generate(bench.model, prompts, n_tokens=WRITTEN_TOKENS)
    with edited(bench.model, changes, bench.layer):
        after = generate(bench.model, prompts, n_tokens=WRITTEN_TOKENS)
    continuations = [{"before": a, "after": b} for a, b in zip(before, after, strict=True)]
    n = len(cases)
    return [
        {"bare": bare, "prefixed": prefixed}
        for bare, prefixed in zip(continuations[:n], continuations[n:], strict=True)
    ]
