"""What the edits did, as rows of a table: each figure before and after, arm by arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reports.numbers import COUNTED_OUT, chance, number, percent, share, share_of, times
from reports.tables import editors, verdicts

Arm = Mapping[str, Any]
NOT_CHECKED = "not checked"


def change(figure: Arm | None, write: Callable[[Any], str]) -> str:
    """A figure before and after; ``not checked`` where there was nothing to measure it on."""
    if figure is None:
        return NOT_CHECKED
    after = write(figure["after"])
    if write is share and figure["after"] is not None and figure["n"] >= COUNTED_OUT:
        after = share_of(figure["after"], figure["n"])
    return f"{write(figure['before'])} → {after}"


def factor(ratio: float | None) -> str:
    """Perplexity after an edit over before; ``None`` stands for one beyond all numbers."""
    return "overflowed" if ratio is None else times(ratio)


def _perplexity(figure: Arm) -> str:
    after = "overflowed" if figure["after"] is None else number(figure["after"])
    return f"{number(figure['before'])} → {after}"


def ratio(figure: Arm) -> str:
    """A perplexity's ratio with its interval.

    Args:
        figure: An arm's ``perplexity``.

    Returns:
        E.g. ``1.02× (1.00 to 1.04)``.
    """
    ends = figure.get("ratio_interval")
    if not ends:
        return factor(figure["ratio"])
    low, high = (times(end).removesuffix("×") for end in ends)
    return f"{factor(figure['ratio'])} ({low} to {high})"


def _efficacy(name: str, write: Callable[[Any], str]) -> Callable[[Arm], str]:
    return lambda arm: (
        f"{write(arm['efficacy'][f'{name}_before'])} → {write(arm['efficacy'][f'{name}_after'])}"
    )


def _damage(name: str) -> Callable[[Arm], str]:
    return lambda arm: (
        NOT_CHECKED if arm["damage"].get(name) is None else percent(arm["damage"][name])
    )


def _response(name: str) -> Callable[[Arm], str]:
    return lambda arm: (
        NOT_CHECKED if (share := arm.get("response", {}).get(name)) is None else percent(share)
    )


def _tasks(tasks: Arm | None) -> str:
    """The mean score over downstream tasks, before and after."""
    if not tasks:
        return NOT_CHECKED
    before, after = (
        sum(task[when] for task in tasks.values()) / len(tasks) for when in ("before", "after")
    )
    return f"{percent(before)} → {percent(after)}"


# Name, meaning, reader, and whether only the longer table of a terminal shows it.
_ROWS: tuple[tuple[str, str, Callable[[Arm], str], bool], ...] = (
    ("D, unit direction", "", lambda arm: number(arm["denominator_normalised"]), True),
    ("‖v* − v‖", "", lambda arm: number(arm["numerator_norm"]), True),
    ("Perplexity", "of held-out text", lambda arm: _perplexity(arm["perplexity"]), False),
    ("Perplexity ratio", "after over before, 95\u00a0% interval",
     lambda arm: ratio(arm["perplexity"]), False),
    ("Mean text perplexity", "", lambda arm: _perplexity(arm["perplexity"]["text_mean"]),
     True),
    ("Damage, predicted", "change of hidden states over their norm", _damage("relative"), False),
    ("Damage at first tokens", "of other texts", _damage("relative_first_tokens"), False),
    ("Damage, measured", "the same over the text set", _damage("measured_relative"), False),
    ("‖ΔW‖ / ‖W‖", "", lambda arm: number(arm["relative_update_norm"]), False),
    ("P(new object)", "efficacy", _efficacy("p", chance), False),
    ("P(true object)", "", _efficacy("p_true", chance), False),
    ("Rank of the new object", "", _efficacy("rank", number), False),
    ("Edit took", "P(new) > P(true)",
     lambda arm: "yes" if arm["efficacy"]["success"] else "no", False),
    ("φ at paraphrases", "share of the change they receive", _response("paraphrases"), False),
    ("φ at neighbours", "at most, the median prompt", _response("neighbours"), False),
    ("Generalisation", "paraphrases", lambda arm: change(arm["generalisation"], share), False),
    ("Locality", "neighbouring facts", lambda arm: change(arm["locality"], share), False),
    ("Portability", "what follows from the fact",
     lambda arm: change(arm.get("portability"), share), False),
    ("Recall", "of other facts", lambda arm: change(arm["recall"], share), False),
    ("Downstream tasks", "mean score", lambda arm: _tasks(arm.get("tasks")), False),
    ("Text entropy", "bits, of generated n-grams", lambda arm: change(arm["entropy"], number),
     False),
)  # fmt: skip


def rows(edit: Arm, *, all_figures: bool = False) -> list[tuple[str, str, list[str]]]:
    """The table of one edit.

    Args:
        edit: One edit of a ``diag.verify/1`` document.
        all_figures: Whether to include those that only explain others.

    Returns:
        For each figure its name, what it means, and a cell for each arm; figures that were not
        checked in any arm are left out.
    """
    shown = editors.arms(edit["arms"])
    table = [
        (name, meaning, [read(edit["arms"][arm.name]) for arm in shown])
        for name, meaning, read, extra in _ROWS
        if all_figures or not extra
    ]
    return [row for row in table if set(row[2]) != {NOT_CHECKED}]


def outcomes(edit: Arm) -> list[verdicts.Label]:
    """What became of the model in each arm."""
    return [verdicts.label(verdicts.outcome(edit, arm.name)) for arm in editors.arms(edit["arms"])]


def reasons(edit: Arm) -> list[str]:
    """Why an arm's outcome is not ``intact``, a line for each arm with a reason."""
    phrases = edit.get("outcome_reasons") or {}
    return [f"{arm.short}: {'; '.join(phrases[arm.name])}" for arm in editors.arms(phrases)
            if phrases[arm.name]]  # fmt: skip


def generated(edit: Arm) -> list[tuple[str, str, str, str]]:
    """What the model says after the prompt, before and after each edit.

    Args:
        edit: One edit of a ``diag.verify/1`` document.

    Returns:
        For each arm its style, its name, the prefix before the prompt, and the text.
    """
    shown = editors.arms(edit["arms"])
    lines = [("before", "Before", "", edit["arms"][arm.name]["efficacy"]["generated_before"])
             for arm in shown[:1]]  # fmt: skip
    for arm in shown:
        figures = edit["arms"][arm.name]
        lines.append(
            (arm.style, arm.short, figures.get("prefix", ""), figures["efficacy"]["generated"])
        )
    return lines


def sentence(edit: Arm) -> str:
    """What became of perplexity, in a sentence.

    Args:
        edit: A ``diag.verify/1`` document of one edit.

    Returns:
        The sentence.
    """
    limit = number(float(edit["settings"]["collapse_ratio"]))
    shown = editors.unprefixed(edit["arms"])
    ratios = [
        f"{arm.short} {factor(edit['arms'][arm.name]['perplexity']['ratio'])}" for arm in shown
    ]
    broken = [arm.short for arm in shown if edit["collapsed"].get(arm.name)]
    damaged = [arm.short for arm in shown if verdicts.outcome(edit, arm.name) == "damaged"]
    end = f"; so {' and '.join(broken)} broke the model" if broken else ""
    worse = f" {' and '.join(damaged)} damaged it." if damaged else ""
    return (
        f"Perplexity after the edit over before: {', '.join(ratios)}. "
        f"A model counts as collapsed from {limit}×{end}.{worse}"
    )
