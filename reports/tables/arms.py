"""What the four edits did, as rows of a table: each figure before and after, arm by arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from reports.numbers import number, times

ARMS = {
    "rome": "ROME",
    "c_rome": "C-ROME",
    "p_rome": "P-ROME",
    "c_rome_prefixed": "C-ROME + prefix",
}
Arm = Mapping[str, Any]


def share(value: float | None) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{100 * value:.0f}%"


def chance(value: float | None) -> str:
    """A probability: small ones would all be 0%."""
    return "–" if value is None else f"{value:.2f}" if value >= 0.005 else "< 0.005"


def change(figure: Arm | None, write: Callable[[Any], str]) -> str:
    """A figure before and after; ``not checked`` where there was nothing to measure it on."""
    if figure is None:
        return "not checked"
    return f"{write(figure['before'])} → {write(figure['after'])}"


def _perplexity(arm: Arm) -> str:
    found = arm["perplexity"]
    after = "overflowed" if found["after"] is None else number(found["after"])
    return f"{number(found['before'])} → {after}"


def _pair(name: str, write: Callable[[Any], str]) -> Callable[[Arm], str]:
    return lambda arm: (
        f"{write(arm['efficacy'][f'{name}_before'])} → {write(arm['efficacy'][f'{name}_after'])}"
    )


def _damage(name: str) -> Callable[[Arm], str]:
    return lambda arm: "not checked" if arm["damage"][name] is None else times(arm["damage"][name])


# What it is, what that means, and how it is read.
ROWS: tuple[tuple[str, str, Callable[[Arm], str]], ...] = (
    ("Perplexity", "of held-out text", _perplexity),
    ("Damage, predicted", "push of an average token over its length", _damage("relative")),
    ("Damage, measured", "the same over the text set", _damage("measured_relative")),
    ("‖ΔW‖ / ‖W‖", "", lambda arm: number(arm["relative_update_norm"])),
    ("P(new object)", "efficacy", _pair("p", chance)),
    ("P(true object)", "", _pair("p_true", chance)),
    ("Rank of the new object", "", _pair("rank", number)),
    ("Edit took", "P(new) > P(true)", lambda arm: "yes" if arm["efficacy"]["success"] else "no"),
    ("Generalisation", "paraphrases", lambda arm: change(arm["generalisation"], share)),
    ("Locality", "neighbouring facts", lambda arm: change(arm["locality"], share)),
    ("Recall", "of other facts", lambda arm: change(arm["recall"], share)),
    ("Text entropy", "bits, of generated n-grams", lambda arm: change(arm["entropy"], number)),
)  # fmt: skip


def rows(edit: Arm) -> list[tuple[str, str, list[str]]]:
    """The table of one edit.

    Args:
        edit: One edit of a ``diag.verify/1`` document.

    Returns:
        For each figure its name, what it means, and a cell for each arm.
    """
    return [
        (name, meaning, [read(edit["arms"][arm]) for arm in ARMS]) for name, meaning, read in ROWS
    ]


def sayings(edit: Arm) -> list[tuple[str, str, str, str]]:
    """What the model says behind the prompt, before and after each edit.

    Args:
        edit: One edit of a ``diag.verify/1`` document.

    Returns:
        For each arm its key, name, the prefix in front of the prompt, and the text.
    """
    arms = edit["arms"]
    said = [("before", "Before", "", arms["rome"]["efficacy"]["generated_before"])]
    for arm, name in ARMS.items():
        found = arms[arm]
        said.append((arm, name, found.get("prefix", ""), found["efficacy"]["generated"]))
    return said


def sentence(edit: Arm) -> str:
    """What became of perplexity, in a sentence.

    Args:
        edit: A ``diag.verify/1`` document of one edit.

    Returns:
        The sentence.
    """
    limit = float(edit["settings"]["collapse_ratio"])
    told = [
        f"{ARMS[arm]} {'overflowed' if ratio is None else times(ratio)}"
        for arm in ("rome", "c_rome", "p_rome")
        for ratio in (edit["arms"][arm]["perplexity"]["ratio"],)
    ]
    broken = [ARMS[arm] for arm in ("rome", "c_rome", "p_rome") if edit["collapsed"][arm]]
    end = f"; so {' and '.join(broken)} broke the model" if broken else ""
    return (
        f"Perplexity after the edit over before: {', '.join(told)}. "
        f"From {times(limit)} on a model counts as collapsed{end}."
    )
