"""The page of one edit: an argument from the verdict to what to do instead.

Made from its diagnosis (``diag.keys/1``), from its verification (``diag.verify/1``), or from both.
What was not measured is not left out: the page says so and shows the command that measures it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from reports.document import ReportError
from reports.figures import edit
from reports.numbers import number, times
from reports.pages import first_token
from reports.tables import terms
from reports.tables.arms import rows as arm_rows
from reports.tables.arms import sayings, sentence

Document = Mapping[str, Any]
VERDICTS = {"collapse_risk": "Collapse risk", "unclear": "Unclear", "safe": "Safe"}


def view(
    keys: Document | None,
    verify: Document | None,
    probes: Document | None = None,
    *,
    figures: bool = True,
) -> dict[str, Any]:
    """Everything the page of one edit shows.

    Args:
        keys: The diagnosis, if there is one.
        verify: The verification of the same edit, if there is one.
        probes: First-token probes of the same model and block, if there are some.
        figures: Whether to draw figures.

    Returns:
        The template's values.

    Raises:
        ReportError: If the two are about different edits.
    """
    if keys and verify:
        _check_same(keys, verify)
    d = keys or verify
    assert d is not None
    if probes and _site(probes) != _site(d):
        raise ReportError("the first-token probes are about different weights or another block")
    found = terms.of_edit(verify) if verify else terms.of_keys(d)
    before, after = d["request"]["prompt"].split("{}", 1)
    split = terms.split(found)
    return {
        "k": keys, "v": verify,
        "before": before, "after": after,
        "terms": found, "split": split, "figures": _figures(keys, verify, found) if figures else {},
        "explained": terms.EXPLAINED,
        "names": terms.NAMES, "arm_names": edit.ARMS,
        "arm_rows": arm_rows(verify) if verify else [],
        "sayings": sayings(verify) if verify else [],
        "outcome": sentence(verify) if verify else None,
        "advice": advice(found, verify),
        "commands": {"keys": command(d, "diag.keys", "--json keys.json"),
                     "verify": command(d, "diag.verify", "--json verify.json"),
                     "why": f"python -m probes.first_token --model {_model(d)} "
                            f"--layer {d['site']['layer']} --json first_token.json",
                     "instead": command(d, "diag.verify", "--save-variant c_rome "
                                                          "--save-model DIR")},
        **(first_token.view(probes, figures=figures) if probes else {"w": None}),
        **_headline(keys, verify), "kind": "edit", "title": _title(d), "d": d,
    }  # fmt: skip


def _figures(
    keys: Document | None, verify: Document | None, found: list[terms.Terms]
) -> dict[str, Any]:
    split = terms.split(found)
    first = keys["first_token"] if keys else None
    # A result of an earlier version holds no projection; with one context there is no plane.
    points = first.get("projection") if first else None
    made: dict[str, Any] = {
        "terms": edit.terms(found),
        "split": edit.split(split) if split else None,
        "plane": edit.plane(points) if points and points["unprefixed"][1] else None,
        "profiles": [],
        "perplexity": None,
        "shares": None,
    }
    if keys and first:
        made["profiles"] = edit.profiles(first["layers"], keys["site"]["layer"])
    if verify:
        made["perplexity"] = edit.perplexity(verify, verify["settings"]["collapse_ratio"])
        made["shares"] = edit.shares(verify)
    return made


def _title(document: Document) -> str:
    subject = str(document["request"]["subject"])
    return f"Editing {subject if len(subject) <= 60 else subject[:59] + '…'}"


def _check_same(keys: Document, verify: Document) -> None:
    for what, names in (("request", ("subject", "prompt")), ("site", ("layer",))):
        for name in names:
            if keys[what][name] != verify[what][name]:
                raise ReportError(
                    f"the results are about different edits: {name} is {keys[what][name]!r} in "
                    f"one and {verify[what][name]!r} in the other"
                )
    if keys["model"]["fingerprint"] != verify["model"]["fingerprint"]:
        raise ReportError("the results are about different weights: make both with the same model")


def _site(document: Document) -> tuple[Any, Any]:
    return document["model"]["fingerprint"], document["site"]["layer"]


def _headline(keys: Document | None, verify: Document | None) -> dict[str, Any]:
    """The verdict, the one number it rests on, and what that number is."""
    if keys:
        verdict, relative = keys["verdict"], keys["damage"]["rome"]["relative_bound"]
        figure = (
            ("ρ, the published denominator over the consistent one",
             number(keys["denominators"]["ratio"]))
            if relative is None
            else ("its own length: as far as ROME as published may push an average token",
                  times(relative))
        )  # fmt: skip
        label, summary = VERDICTS[verdict], keys["summary"]
    else:
        assert verify is not None
        broken = verify["collapsed"]["rome"]
        # A model that has not collapsed may still be damaged: that is no leave to edit.
        ratio = verify["arms"]["rome"]["perplexity"]["ratio"]
        verdict, label = ("collapse_risk", "Collapsed") if broken else ("unclear", "Not collapsed")
        figure = (
            "perplexity after ROME as published, over before",
            "overflowed" if ratio is None else times(ratio),
        )
        summary = sentence(verify)
    return {"verdict": verdict, "verdict_label": label, "summary": summary,
            "figure_label": figure[0], "figure_value": figure[1]}  # fmt: skip


def command(document: Document, module: str, rest: str) -> str:
    """The command that measures something about a document's edit.

    Args:
        document: A result about one edit.
        module: The module to run.
        rest: Options behind the edit's own, as they are to be written.

    Returns:
        A line for a shell.
    """
    request = document["request"]
    words = ["python", "-m", module, "--model", document["model"]["name"]]
    words += ["--layer", str(document["site"]["layer"])]
    words += [f"--subject={request['subject']}", f"--prompt={request['prompt']}"]
    for option in ("target_new", "target_true"):
        if request[option] is not None:
            words.append(f"--{option.replace('_', '-')}={request[option]}")
    return f"{shlex.join(words)} {rest}"


def _model(document: Document) -> str:
    return shlex.quote(str(document["model"]["name"]))


def advice(found: list[terms.Terms], verify: Document | None) -> list[str]:
    """What to do instead of the published edit, with the numbers that speak for it.

    Args:
        found: The terms of each variant.
        verify: What the edits did, if they were made.

    Returns:
        Sentences.
    """
    rome, c_rome, p_rome = found
    most = " up to" if c_rome.is_bound else ""

    def pushed(term: terms.Terms) -> str:
        return "" if term.relative is None else (
            f": it pushes an average token by{most} {times(term.relative)} its own length, "
            f"ROME as published by{most} {times(rome.relative)}"
        )  # fmt: skip

    made = [
        f"Edit with C-ROME, the mean key in both places{pushed(c_rome)}.",
        "Put a prefix in front of the prompt at test time too, so that the key the edit was "
        "written for is met.",
        f"If the bare prompt must carry the fact, P-ROME uses its key in both places"
        f"{pushed(p_rome)}.",
    ]
    if verify:
        arms = verify["arms"]
        told = [
            f"{edit.ARMS[arm]} {times(arms[arm]['perplexity']['ratio'])} perplexity, "
            f"new object {'reached' if arms[arm]['efficacy']['success'] else 'not reached'}"
            for arm in edit.ARMS
            if arms[arm]["perplexity"]["ratio"] is not None
        ]
        made.append("Measured on this edit: " + "; ".join(told) + ".")
    return made
