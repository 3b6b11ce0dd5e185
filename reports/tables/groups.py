"""What groups of edits are compared by, in the order of the paper's tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reports.numbers import FEWEST, counted, estimated, number, percent, share
from reports.tables import editors, surrogate
from reports.tables.editors import Shown
from rome_diagnosis.editors import PUBLISHED

GROUPINGS = {
    "collapse": "Collapse cases and normal ones",
    "first_token": "Position of the subject's last token",
    "record": "The data set's own groups",
}
# What it is called, which figure, and how it is written.
_FIGURES = (
    ("‖v* − v‖", "numerator_norm", number),
    ("|D|, unit direction", "denominator_normalised_size", number),
    ("Damage", "relative_damage", percent),
    ("‖ΔW‖ / ‖W‖", "relative_update_norm", number),
    ("Collapsed", "collapsed", number),
    ("Largest perplexity", "perplexity_max", number),
    ("… over before", "perplexity_ratio_max", number),
    ("Efficacy", "efficacy", share),
    ("Efficacy, unseen prefix", "efficacy_unseen_prefix", share),
    ("Efficacy, generated", "efficacy_generated", share),
    ("Generalisation", "generalisation", share),
    ("Locality", "locality", share),
    ("Recall, other facts", "recall", share),
    ("Text entropy, bits", "entropy", number),
)


def arms(groups: Iterable[Mapping[str, Any]]) -> list[Shown]:
    """The arms that any of these groups holds."""
    return editors.arms(dict.fromkeys(name for group in groups for name in group["arms"]))


def rows(
    groups: Iterable[Mapping[str, Any]], shown: Iterable[Shown], *, between: str = " to "
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Figures down, the arms of each group across; figures that no group has are left out.

    Args:
        groups: Groups of one way of grouping, from a ``diag.verify/1`` document.
        shown: The arms to show, as :func:`arms` gives them.
        between: What separates the ends of an interval.

    Returns:
        For each figure its name, and for each cell the mean and its interval.
    """
    across = [group["arms"].get(arm.name, {}) for group in groups for arm in shown]
    table = []
    for name, figure, write in _FIGURES:
        cells = [
            estimated(value, write, between=between)
            if isinstance(value := arm.get(figure), Mapping)
            else (write(value), "")
            for arm in across
        ]
        if any(mean != "–" for mean, _ in cells):
            table.append((name, cells))
    return table


def predictive(summary: Mapping[str, Any]) -> str | None:
    """How well the predicted damage ranks what happened to perplexity, in sentences.

    Where downstream tasks were asked, what perplexity says of them too.

    Args:
        summary: The ``summary`` of a ``diag.verify/1`` document of a list.

    Returns:
        The sentences, with the numbers of edits it rests on; ``None`` where they are too few.
    """
    agreement = summary["damage_against_perplexity"]
    n, sides = agreement["n_ranked"], (agreement["n_collapsed"], agreement["n_other"])
    parts = []
    if agreement["spearman"] is not None and n >= FEWEST:
        parts.append(
            f"ranks the perplexity ratios with Spearman {number(agreement['spearman'])} "
            f"({counted(n, 'edit')} with a damage of 10\u00a0% or more)"
        )
    if agreement["auc"] is not None and min(sides) >= FEWEST:
        parts.append(
            f"tells collapsed models from others with AUC {number(agreement['auc'])} "
            f"({number(sides[0])} against {number(sides[1])})"
        )
    name = editors.editor(PUBLISHED).short
    sentences = [f"For {name} the predicted damage {' and '.join(parts)}."] if parts else []
    locality = summary.get("response_against_locality")
    if locality and locality["spearman"] is not None and locality["n"] >= FEWEST:
        sentences.append(
            "Over all arms the share φ that neighbours' prompts receive ranks what locality loses "
            f"with Spearman {number(locality['spearman'])} ({number(locality['n'])} arms)."
        )
    if held := summary.get("surrogate"):
        sentences += [surrogate.onset(held), surrogate.silence(held)]
    return " ".join(sentences) or None
