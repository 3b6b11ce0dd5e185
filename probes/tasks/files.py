"""Tasks from JSON Lines, as llm-foundry publishes them, for lm-evaluation-harness.

What the records hold tells their form: ``query, choices, gold`` (PIQA, ARC, OpenBookQA, BoolQ,
COPA), ``context_options, continuation, gold`` (Winogrande) or ``context, continuation`` (LAMBADA).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probes.reading.rows import rows
from rome_diagnosis.errors import UserError
from rome_diagnosis.source import StrPath

ACCURACY = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "query",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
    "metric_list": [ACCURACY, ACCURACY | {"metric": "acc_norm"}],
}
SCHEMA = {
    "output_type": "multiple_choice",
    "doc_to_text": "gold",  # a number: the harness then compares contexts, not continuations
    "doc_to_choice": "context_options",
    "doc_to_target": "continuation",
    "metric_list": [ACCURACY],
}
LAST_WORD = {
    "output_type": "loglikelihood",
    "doc_to_text": "context",
    "doc_to_target": "continuation",
    "metric_list": [ACCURACY],
}
FORMS: Mapping[tuple[str, ...], Mapping[str, Any]] = {
    ("query", "choices", "gold"): CHOICE,
    ("context_options", "continuation", "gold"): SCHEMA,
    ("context", "continuation"): LAST_WORD,
}


def read_task_files(path: StrPath) -> dict[str, Any]:
    """Reads a task.

    Args:
        path: JSON Lines of one of :data:`FORMS`.

    Returns:
        The harness's configuration, named after the file, its documents in memory.

    Raises:
        UserError: If a record cannot be read or is of another form than the first.
    """
    records, form = [], None
    for row in rows(path, what="the task"):
        record, problem = row.record, row.error
        if problem is None:
            form = form or _form(record)
            problem = _problem(record, form)
        if problem is not None:
            raise UserError(f"cannot read the task {path}: {row.place} {problem}")
        records.append(_document(record, form or ()))
    assert form is not None

    def documents(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        return {"test": Dataset.from_list(records)}

    name = Path(path).name.removesuffix(".gz").rpartition(".")[0]
    return {"task": name, "custom_dataset": documents, "test_split": "test", **FORMS[form]}


def _document(record: Mapping[str, Any], form: tuple[str, ...]) -> dict[str, Any]:
    """A record as the harness is to put it together."""
    document = {name: record[name] for name in form}
    if "query" in form:
        # llm-foundry's settings ask questions for an answer on a new line; other texts go on.
        text = record["query"].strip()
        document["query"] = f"{text}\nAnswer:" if "Question:" in text else text
    if "context" in form:  # the harness puts a blank before choices, but none before last words
        document["continuation"] = " " + record["continuation"].strip()
    return document


def _form(record: Any) -> tuple[str, ...] | None:
    held = set(record) if isinstance(record, Mapping) else set()
    return next((form for form in FORMS if held.issuperset(form)), None)


def _problem(record: Any, form: tuple[str, ...] | None) -> str | None:
    """What keeps a record from being a document of a form."""
    if form is None:
        known = "; or ".join(", ".join(names) for names in FORMS)
        return f"is no document of a task: it must hold {known}"
    if not isinstance(record, Mapping) or not set(form) <= set(record):
        return f"is no document like the first: it must hold {', '.join(form)}"
    for name in form:
        value = record[name]
        if name == "gold":
            continue
        texts = value if name in ("choices", "context_options") else [value]
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            return f"has no text in {name}"
    if "gold" in form:
        among = record["choices" if "choices" in form else "context_options"]
        gold = record["gold"]
        if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(among):
            return f"has gold {gold!r}: it must be the index of one of {len(among)} choices"
    return None
