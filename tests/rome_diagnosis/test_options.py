"""Values of options that are more than one word."""

from __future__ import annotations

from rome_diagnosis import options


def test_several_tasks_are_named_with_commas() -> None:
    assert options.task_names("a, b.jsonl") == ["a", "b.jsonl"]
    assert options.task_names(",") == [","]  # which no task is called
