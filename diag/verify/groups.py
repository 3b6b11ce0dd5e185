"""Collapse cases beside normal ones, as the paper's tables put them, with intervals.

Plain numbers in, plain numbers out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from probes.statistics import auc, estimate_mean, spearman
from rome_diagnosis.editors import PUBLISHED, REMEDY
from rome_diagnosis.limits import DAMAGE_NOTICEABLE

GroupBy = Literal["collapse", "first_token", "record"]

Edit = Mapping[str, Any]
Figure = dict[str, Any]


def compare_groups(edits: Sequence[Edit], *, by: GroupBy, seed: int = 0) -> list[Figure]:
    """One row of figures for each group.

    Args:
        edits: The contract's objects, those with an ``error`` left out.
        by: What to group by: collapse of the ``rome`` arm, place of the subject's last token, or
            the group that the data set names.
        seed: Seed of the bootstrap.

    Returns:
        The groups, in order of their names.
    """
    groups: dict[str, list[Edit]] = {}
    for edit in edits:
        groups.setdefault(label(edit, by), []).append(edit)
    return [{"name": name} | describe_groups(groups[name], seed=seed) for name in sorted(groups)]


def label(edit: Edit, by: GroupBy) -> str:
    """The group an edit belongs to.

    Args:
        edit: The contract's object for one edit.
        by: See :func:`compare_groups`.

    Returns:
        Its name.
    """
    if by == "collapse":
        return "collapse" if edit["collapsed"][PUBLISHED] else "normal"
    if by == "first_token":
        return "first token" if edit["site"]["is_first_token"] else "later token"
    return str(edit["request"]["group"] or "none")


def describe_groups(edits: Sequence[Edit], *, seed: int = 0) -> Figure:
    """The figures of one group.

    Args:
        edits: Its members, at least one.
        seed: Seed of the bootstrap.

    Returns:
        ``n``, and for each arm means with their bootstrap intervals, and the largest perplexity.
    """
    return {
        "n": len(edits),
        "perplexity_before": edits[0]["arms"][PUBLISHED]["perplexity"]["before"],
        "arms": {
            arm: _of_arm(
                [edit["arms"][arm] for edit in edits],
                [edit["collapsed"][arm] for edit in edits],
                seed,
            )
            for arm in edits[0]["arms"]
        },
    }


def _of_arm(arms: Sequence[Mapping[str, Any]], broken: Sequence[bool], seed: int) -> Figure:
    """One arm's figures over the edits of a group."""

    def mean(*path: str, size: bool = False) -> Figure | None:
        read: Callable[[Any], float] = (lambda x: abs(float(x))) if size else float
        values = [_dig(arm, path) for arm in arms]
        return interval_of([read(value) for value in values if value is not None], seed=seed)

    def largest(name: str) -> float | None:
        """``None`` where one of them overflowed."""
        values = [arm["perplexity"][name] for arm in arms]
        return None if None in values else max(values)

    figures = {
        "numerator_norm": mean("numerator_norm"),
        "denominator_size": mean("denominator", size=True),
        "denominator_normalised_size": mean("denominator_normalised", size=True),
        "relative_update_norm": mean("relative_update_norm"),
        "relative_damage": mean("damage", "relative"),
        "perplexity_max": largest("after"),
        "perplexity_ratio_max": largest("ratio"),
        "perplexity_ratio": mean("perplexity", "ratio"),
        "collapsed": sum(broken),
        "efficacy": mean("efficacy", "success"),
        "efficacy_top1": mean("efficacy", "top1"),
        "efficacy_generated": mean("efficacy", "generated_success"),
        "generalisation": mean("generalisation", "after"),
        "locality": mean("locality", "after"),
        "locality_unchanged": mean("locality", "unchanged"),
        "entropy": mean("entropy", "after"),
        "recall": mean("recall", "after"),
    }
    if "unseen_prefix" in arms[0]:
        figures["efficacy_unseen_prefix"] = mean("unseen_prefix", "efficacy", "success")
    return figures


def rescue(edits: Sequence[Edit]) -> Figure:
    """What C-ROME makes of the edits with which ROME breaks the model.

    Args:
        edits: The contract's objects, those with an ``error`` left out.

    Returns:
        ``n`` of them, and the largest perplexity ratio of each under ``c_rome``.
    """
    broken = [edit for edit in edits if edit["collapsed"][PUBLISHED]]
    ratios = [edit["arms"][REMEDY]["perplexity"]["ratio"] for edit in broken]
    return {
        "n": len(broken),
        "c_rome_ratio_max": max(ratios) if ratios and None not in ratios else None,
    }


def damage_against_perplexity(edits: Sequence[Edit], arms: Sequence[str] = (PUBLISHED,)) -> Figure:
    """How well the closed-form damage tells what happens to perplexity.

    Args:
        edits: The contract's objects, those with an ``error`` left out.
        arms: Whose damage and perplexity, pooled.

    Returns:
        ``spearman`` over updates whose predicted relative damage reaches ``DAMAGE_NOTICEABLE``
        (``n_ranked`` of them), and ``auc`` with which the damage separates collapsed models from
        the others; each is ``None`` where there is nothing to rank or separate.
    """
    rows = []
    for edit in edits:
        for arm in arms:
            figures = edit["arms"][arm]
            if figures["damage"]["relative"] is not None:
                ratio = figures["perplexity"]["ratio"]
                size = float("inf") if ratio is None else ratio
                rows.append((figures["damage"]["relative"], size, edit["collapsed"][arm]))
    ranked = [(damage, ratio) for damage, ratio, _ in rows if damage >= DAMAGE_NOTICEABLE.value]
    positive = [damage for damage, _, broken in rows if broken]
    negative = [damage for damage, _, broken in rows if not broken]
    return {
        "spearman": spearman(*zip(*ranked, strict=True)) if ranked else None,
        "n_ranked": len(ranked),
        "auc": auc(positive, negative),
        "n_collapsed": len(positive),
        "n_other": len(negative),
    }


def response_against_locality(edits: Sequence[Edit]) -> Figure:
    """How well φ at the neighbours' prompts, known before editing, ranks what locality loses.

    Args:
        edits: The contract's objects, those with an ``error`` left out.

    Returns:
        ``spearman`` over the edits' arms with neighbours, pooled, and ``n`` of them.
    """
    rows = []
    for edit in edits:
        for arm in edit["arms"].values():
            share, locality = arm["response"]["neighbours"], arm["locality"]
            if share is not None and locality and locality["before"]:
                rows.append((share, locality["before"] - locality["after"]))
    return {"spearman": spearman(*zip(*rows, strict=True)) if rows else None, "n": len(rows)}


def interval_of(values: Sequence[float], *, seed: int = 0) -> Figure | None:
    """A mean with its percentile bootstrap interval.

    Args:
        values: Values of one group.
        seed: Seed of the resampling.

    Returns:
        ``mean``, ``low``, ``high`` and ``n``; ``None`` without values.
    """
    interval = estimate_mean(values, seed=seed)
    return None if interval is None else asdict(interval)


def _dig(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if value is None:
            return None
        value = value[name]
    return value
