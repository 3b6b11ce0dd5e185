"""Group tables, intervals and ranks against other ways to the same numbers."""

from __future__ import annotations

import pytest

from diag.verify import groups

ARMS = ("rome", "c_rome", "p_rome", "c_rome_prefixed")


def edit(ratio, damage, *, first=True, group=None, success=True, c_ratio=1.1):
    """One edit's object, with the figures that groups read."""

    def arm(ratio):
        return {
            "denominator": -2.0 if ratio == c_ratio else 0.5,
            "denominator_normalised": 0.25,
            "numerator_norm": 3.0,
            "relative_update_norm": 0.1,
            "damage": {"relative": damage},
            "perplexity": {"before": 4.0, "after": None if ratio is None else 4 * ratio}
            | {"ratio": ratio},
            "efficacy": {"success": success, "top1": success, "generated_success": False},
            "generalisation": None,
            "locality": {"after": 1.0, "unchanged": 0.5},
            "entropy": {"after": 5.0},
            "recall": None,
        }

    arms = {name: arm(ratio if name == "rome" else c_ratio) for name in ARMS}
    arms["c_rome_prefixed"]["unseen_prefix"] = {"efficacy": {"success": not success}}
    return {
        "request": {"group": group},
        "site": {"is_first_token": first},
        "arms": arms,
        "collapsed": {
            name: found["perplexity"]["ratio"] is None or found["perplexity"]["ratio"] >= 10
            for name, found in arms.items()
        },
    }


EDITS = [
    edit(40.0, 2.0, group="bad", success=False),
    edit(None, 3.0, group="bad"),
    edit(1.5, 0.3, first=False, group="good"),
    edit(1.0, 0.05, first=False, c_ratio=1.3),
]


def test_groups_and_their_figures():
    by_collapse = groups.compare_groups(EDITS, by="collapse")
    assert [(row["name"], row["n"]) for row in by_collapse] == [("collapse", 2), ("normal", 2)]
    rome, c_rome = (by_collapse[0]["arms"][arm] for arm in ("rome", "c_rome"))
    assert rome["collapsed"] == 2
    assert c_rome["collapsed"] == 0
    assert rome["perplexity_max"] is None  # one overflowed
    assert c_rome["perplexity_max"] == pytest.approx(4.4)
    assert rome["relative_damage"]["mean"] == 2.5
    assert rome["efficacy"] == groups.interval_of([0.0, 1.0])
    assert c_rome["denominator_size"]["mean"] == 2.0
    assert rome["generalisation"] is None
    assert by_collapse[0]["arms"]["c_rome_prefixed"]["efficacy_unseen_prefix"]["mean"] == 0.5
    names = [row["name"] for row in groups.compare_groups(EDITS, by="first_token")]
    assert names == ["first token", "later token"]
    assert [row["name"] for row in groups.compare_groups(EDITS, by="record")] == [
        "bad",
        "good",
        "none",
    ]


def test_rescue_looks_at_broken_edits_only():
    assert groups.rescue(EDITS) == {"n": 2, "c_rome_ratio_max": 1.1}
    assert groups.rescue(EDITS[2:]) == {"n": 0, "c_rome_ratio_max": None}


def test_damage_against_perplexity():
    told = groups.damage_against_perplexity(EDITS)
    assert told["n_ranked"] == 3  # the fourth is too small to be told from noise
    assert told["spearman"] == pytest.approx(1.0)  # the overflowed one ranks highest
    assert told["auc"] == 1.0
    assert (told["n_collapsed"], told["n_other"]) == (2, 2)
    reversed_ = [edit(40.0, 0.2), edit(1.0, 2.0), edit(2.0, 1.0)]
    told = groups.damage_against_perplexity(reversed_)
    assert told["spearman"] == pytest.approx(-1.0)
    assert told["auc"] == 0.0
    assert groups.damage_against_perplexity(EDITS[2:])["auc"] is None
    unknown = [edit(40.0, None), edit(1.0, None)]
    assert groups.damage_against_perplexity(unknown)["spearman"] is None
