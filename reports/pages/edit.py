"""The page of one edit: an argument from the verdict to what to do instead.

Written from its diagnosis (``diag.keys/1``), from its verification (``diag.verify/1``), or from
both. What was not measured is not left out: the page ends with the commands that measure it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from reports.figures import edit
from reports.numbers import number, percent
from reports.pages import first_token
from reports.tables import arms, editors, setup, terms, verdicts
from reports.tables.advice import advice, recommended
from rome_diagnosis.editors import REMEDY
from rome_diagnosis.errors import UserError

Document = Mapping[str, Any]
LONGEST_TITLE = 60


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
        UserError: If they are about different edits.
    """
    if keys and verify:
        _check_same(keys, verify)
    document = keys or verify
    assert document is not None
    if probes and _site(probes) != _site(document):
        raise UserError("the first-token probes are about different weights or another block")
    per_editor = terms.of_edit(verify) if verify else terms.of_keys(document)
    before, after = document["request"]["prompt"].split("{}", 1)
    safe = recommended(per_editor, keys)
    commands = _commands(document, safe[0].editor.name if safe else None)
    return {
        **(first_token.view(probes, figures=figures) if probes else {"w": None}),
        "kind": "edit", "title": _title(document), "d": document, "k": keys, "v": verify,
        "before": before, "after": after,
        **_headline(keys, verify),
        "after_edit": _after_edit(verify) if keys and verify else None,
        "terms": per_editor, "split": terms.split(per_editor), "responses": _responses(keys),
        "ratio_name": terms.ratio_name(), "remedy": editors.editor(REMEDY),
        "figures": _figures(keys, verify, per_editor) if figures else {},
        "arms": editors.arms(verify["arms"]) if verify else [],
        "arm_rows": arms.rows(verify) if verify else [],
        "outcomes": arms.outcomes(verify) if verify else [],
        "generated": arms.generated(verify) if verify else [],
        "outcome": arms.sentence(verify) if verify else None,
        "reasons": arms.reasons(verify) if verify else [],
        "prediction": (verify or {}).get("prediction"),
        "notes": setup.notes(document),
        "advice": advice(per_editor, keys, verify),
        "findings": verdicts.findings(keys) if keys else [],
        "reasoning": verdicts.reasoning(keys) if keys else None,
        "measured_with": setup.measured_with(verify or document),
        "instead": commands["instead"],
        "unmeasured": _unmeasured(commands, keys=keys, why=probes, verify=verify),
    }  # fmt: skip


def _unmeasured(commands: Mapping[str, str], **measured: Document | None) -> list[tuple[str, str]]:
    """What the page cannot show, and the command that measures it."""
    parts = {
        "keys": "Where the keys lie, the first token block by block, and what is checked of them",
        "why": "Why the first token's key is different",
        "verify": "What the edits do",
    }
    return [(what, commands[name]) for name, what in parts.items() if not measured[name]]


def _responses(keys: Document | None) -> list[tuple[editors.Shown, list[float | None]]]:
    """φ of each editor at four kinds of keys, where the diagnosis holds it."""
    responses = (keys or {}).get("response") or {}
    kinds = ("bare", "prefixed", "other_first_tokens", "later_tokens")
    return [
        (shown, [responses[shown.name].get(kind) for kind in kinds])
        for shown in editors.editors(responses)
    ]


def _figures(
    keys: Document | None, verify: Document | None, per_editor: list[terms.Terms]
) -> dict[str, Any]:
    split = terms.split(per_editor)
    first = keys["first_token"] if keys else None
    # A result of an earlier version holds no projection; with one context there is no plane.
    points = first.get("projection") if first else None
    return {
        "terms": edit.terms(per_editor),
        "split": edit.split(split) if split else None,
        "plane": edit.plane(points) if points and points["unprefixed"][1] else None,
        "profiles": edit.profiles(first["layers"], keys["site"]["layer"]) if keys and first else [],
        "perplexity": edit.perplexity(verify, verify["settings"]["collapse_ratio"])
        if verify
        else None,
        "shares": edit.shares(verify) if verify else None,
    }


def _title(document: Document) -> str:
    subject = str(document["request"]["subject"])
    if len(subject) > LONGEST_TITLE:
        subject = subject[: LONGEST_TITLE - 1] + "…"
    return f"Editing {subject}"


def _check_same(keys: Document, verify: Document) -> None:
    for what, names in (("request", ("subject", "prompt")), ("site", ("layer",))):
        for name in names:
            if keys[what][name] != verify[what][name]:
                raise UserError(
                    f"the results are about different edits: {name} is {keys[what][name]!r} in "
                    f"one and {verify[what][name]!r} in the other"
                )
    if keys["model"]["fingerprint"] != verify["model"]["fingerprint"]:
        raise UserError("the results are about different weights: measure both with the same model")


def _site(document: Document) -> tuple[Any, Any]:
    return document["model"]["fingerprint"], document["site"]["layer"]


def _headline(keys: Document | None, verify: Document | None) -> dict[str, Any]:
    """The verdict, the one number it rests on, and what that number is."""
    if keys:
        name = editors.judged([shown.name for shown in editors.damaging(keys)])
        label, summary = verdicts.label(str(keys["verdict"])), keys["summary"]
        term = terms.named(terms.of_keys(keys), name)
        if term is None or term.relative is None:
            value, meaning = number(keys["denominators"]["ratio"]), f"ρ = {terms.ratio_name()}"
        elif term.expected is None:
            value = percent(term.relative)
            meaning = (
                f"of their norm: the most by which {term.editor.label} may change hidden states"
            )
        else:  # what the verdict's alarms rest on
            value = percent(term.expected)
            meaning = (
                f"of their norm: by how much {term.editor.label} is expected to change hidden "
                f"states; at most {percent(term.relative)}"
            )
    else:
        assert verify is not None
        name = editors.judged(verify["arms"])
        label, summary = verdicts.label(verdicts.outcome(verify, name)), arms.sentence(verify)
        value = arms.factor(verify["arms"][name]["perplexity"]["ratio"])
        meaning = f"perplexity after {editors.editor(name).label}, over before"
    return {
        "verdict": label, "summary": summary, "figure_value": value, "figure_label": meaning,
        "is_safe": label.style == "pass",
    }  # fmt: skip


def _after_edit(verify: Document) -> tuple[str, verdicts.Label]:
    """The judged editor and what became of the model."""
    name = editors.judged(verify["arms"])
    return editors.editor(name).short, verdicts.label(verdicts.outcome(verify, name))


def command(document: Document, module: str, rest: str) -> str:
    """The command that measures something about a document's edit.

    Args:
        document: A result about one edit.
        module: The module to run.
        rest: Options after the edit's own, as they are to be written.

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


def _commands(document: Document, safe: str | None) -> dict[str, str]:
    """Commands by what they do; the edit that is made ``instead``, with an editor that is safe."""
    model, layer = (
        shlex.quote(str(document["model"]["name"])),
        shlex.quote(str(document["site"]["layer"])),
    )
    return {
        "keys": command(document, "diag.keys", "--json keys.json"),
        "verify": command(document, "diag.verify", "--json verify.json"),
        "why": f"python -m probes.first_token --model {model} --layer {layer} "
               "--json first_token.json",
        "instead": command(
            document, "diag.verify", f"--save-editor {safe} --save-model DIR"
        ) if safe else "",
    }  # fmt: skip
