"""The diagnosis of one edit as text in a terminal: its argument, or all that was measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from reports.numbers import at_most, number, percent, rank
from reports.tables import editors, setup, terms, verdicts
from reports.tables.advice import answers, nothing, recommended
from reports.text import console as parts
from reports.text.console import Document, quoted

MARKS = {"pass": "✓", "warn": "!", "fail": "✗", "none": "·"}
MOST_LINES = 15  # of an argument, on a terminal of 80 columns or more
HINT = "(--verbose shows the first token, every check and the settings)"


def show(document: Document, console: Console | None = None, *, verbose: bool = False) -> None:
    """Prints a ``diag.keys/1`` document.

    Args:
        document: The saved result.
        console: Where to; standard output by default.
        verbose: Whether to print everything rather than the argument alone.
    """
    parts.show(partial(render, verbose=verbose), document, console)


def render(document: Document, *, verbose: bool = False) -> RenderableType:
    """Lays a ``diag.keys/1`` document out.

    Args:
        document: The saved result.
        verbose: Whether to lay out everything rather than the argument alone.

    Returns:
        Something ``rich`` prints.
    """
    if not verbose:
        return _Fitted(document)
    return parts.page(
        _headline(document),
        "",
        parts.indented(document["summary"]),
        parts.section("Lookup", _lookup(document)),
        parts.section("Denominators", _denominators(document), _ratio(document)),
        parts.section("Response", _response(document)) if document.get("response") else None,
        parts.section("First token", *_first_token(document)),
        parts.section(
            "Checked",
            verdicts.reasoning(document),
            _findings(document),
            parts.dim(document["validity"]) if document.get("validity") else None,
        ),
        parts.section("Measured with", parts.dim("\n".join(_measured_with(document)))),
    )


@dataclass(frozen=True)
class _Fitted:
    """The argument, after as many sentences of the summary as :data:`MOST_LINES` leave room for."""

    document: Document

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        argument = parts.page(
            parts.indented(_argument(self.document)), parts.indented(parts.dim(HINT))
        )
        room = MOST_LINES - 3 - len(console.render_lines(argument, options))

        def lines(text: str) -> int:
            return len(console.render_lines(parts.page(parts.indented(text)), options))

        verdict, *others = _sentences(self.document["summary"])
        shown = " ".join([verdict, *others[:1]])  # a verdict is never without its reason
        for sentence in others[1:]:
            if lines(f"{shown} {sentence}") > room:
                break
            shown = f"{shown} {sentence}"
        empty = "" if lines(shown) <= room else None
        yield parts.page(_headline(self.document), empty, parts.indented(shown), "", argument)


def _headline(document: Document) -> Text:
    request = document["request"]
    text = Text.assemble(
        parts.badge(verdicts.label(str(document["verdict"]))), "  ",
        parts.edited(request, style="bold underline"),
    )  # fmt: skip
    if request["target_new"]:
        text.append(f" … → {request['target_new'].strip()}", style="dim")
    return text


def _argument(document: Document) -> RenderableType:
    """The numbers that the summary rests on, a line each, and what to do instead."""
    per_editor = terms.of_keys(document)
    ratio, split = document["denominators"], document["keys"]
    rho = (
        f"{number(ratio['ratio'])} = length {number(split['whitened_length_ratio'])} × cosine "
        f"{number(split['whitened_cosine'])}"
    )
    if ratio["ratio_interval"]:
        low, high = map(number, ratio["ratio_interval"])
        rho += f"; {low} to {high} over draws (95\u00a0%)"
    rows = [
        ("looked up at", _places(document)),
        ("denominators", _listed(per_editor, lambda term: number(term.denominator))),
        ("ρ", rho),
        (_bounded(per_editor), _listed(per_editor, _damage)),
    ]
    if any(term.relative_first is not None for term in per_editor):
        rows.append(("at first tokens", _listed(per_editor, _first_tokens)))
    if document["verdict"] != "safe":
        rows.append(("instead", _instead(document, per_editor)))
    return parts.table(None, [(Text(name, style="dim"), value) for name, value in rows])


def _instead(document: Document, per_editor: Sequence[terms.Terms]) -> str:
    lines = [
        f"{term.editor.described}. {answers(term, document)}".strip()
        for term in recommended(per_editor, document)
    ]
    return " ".join(lines) or nothing(document)


def _sentences(summary: str) -> list[str]:
    """A summary's sentences: the verdict, then the findings it rests on."""
    return re.split(r"(?<=[.!?]) (?=[^a-z])", " ".join(summary.split()))


def _listed(per_editor: Sequence[terms.Terms], write: Callable[[terms.Terms], str]) -> str:
    return ", ".join(f"{term.editor.short} {write(term)}" for term in per_editor)


def _bounded(per_editor: Sequence[terms.Terms]) -> str:
    """What :func:`_damage` shows."""
    return "damage" if any(term.expected is not None for term in per_editor) else "damage at most"


def _damage(term: terms.Terms) -> str:
    return "not checked" if term.relative is None else at_most(term.relative, term.expected)


def _first_tokens(term: terms.Terms) -> str:
    return at_most(term.relative_first, term.expected_first)


def _places(document: Document) -> str:
    bare = document["lookup"]["unprefixed"]
    text = f"{quoted(bare['token'])}, index {bare['index']}"
    if bare["is_first_token"]:
        text += ", the first token"
    after = _prefixed(document)
    if after:
        token, n, places = after[0]
        text += f"; after {'a prefix' if len(after) == 1 else f'{n} of the prefixes'} "
        text += f"{quoted(token)}, index {places}"
    return text


def _prefixed(document: Document) -> list[tuple[str, int, str]]:
    """The tokens of the prefixed contexts, how often each occurs, and where."""
    rows = document["lookup"]["prefixed"][1:]
    places = []
    for token, n in Counter(row["token"] for row in rows).most_common():
        at = sorted({row["index"] for row in rows if row["token"] == token})
        places.append((token, n, str(at[0]) if len(at) == 1 else f"{at[0]}–{at[-1]}"))
    return places


def _lookup(document: Document) -> RenderableType:
    bare = document["lookup"]["unprefixed"]
    rows = [
        ("bare prompt", quoted(bare["token"]), str(bare["index"]),
         "the first token" if bare["is_first_token"] else "")
    ]  # fmt: skip
    for token, n, places in _prefixed(document):
        note = "" if token == bare["token"] else "another token than the bare one"
        rows.append((f"{n} prefixed", quoted(token), places, note))
    return parts.table(
        ("context", "token", "index", ""),
        [(*row, Text(note, style="yellow")) for *row, note in rows],
    )


def _denominators(document: Document) -> RenderableType:
    per_editor = terms.of_keys(document)
    first = any(term.relative_first is not None for term in per_editor)
    head = ["editor", ">D", "", ">normalised", f">{_bounded(per_editor)}"]
    rows = []
    for term in per_editor:
        normalised = document["denominators"].get(f"{term.editor.name}_normalised")
        row: list[RenderableType] = [
            term.editor.label, number(term.denominator), parts.dim(term.editor.formula),
            number(normalised), _damage(term),
        ]  # fmt: skip
        rows.append(row + ([percent(term.relative_first)] if first else []))
    return parts.table(head + ([">at first tokens"] if first else []), rows)


def _ratio(document: Document) -> Text:
    ratio, keys = document["denominators"], document["keys"]
    text = Text.assemble(
        f"ρ = {terms.ratio_name()} = ", (number(ratio["ratio"]), "bold"),
        f" = {number(keys['whitened_length_ratio'])} (length ‖k_u‖/‖k̄‖) × "
        f"{number(keys['whitened_cosine'])} (cosine), in the C⁻¹ metric",
    )  # fmt: skip
    if ratio["ratio_interval"]:
        low, high = ratio["ratio_interval"]
        text.append(
            f"\n{number(low)} to {number(high)} over draws of the contexts (95\u00a0%), "
            f"{number(ratio['ratio_without_bare'])} without the bare prompt in k̄"
        )
    return text


def _response(document: Document) -> RenderableType:
    responses = document["response"]
    kinds = ("bare", "prefixed", "other_first_tokens", "later_tokens")
    head = ("share φ of the change", *(f">{kind.replace('_', ' ')}" for kind in kinds))
    return parts.table(
        head,
        [
            (shown.short, *(number(responses[shown.name].get(kind)) for kind in kinds))
            for shown in editors.editors(responses)
        ],
    )


def _first_token(document: Document) -> list[RenderableType]:
    first = document["first_token"]
    alike, similar = first["likeness"], first["concentration"]
    columns = ("layer", "key_norm_unprefixed", "key_norm_prefixed", "cosine", "residual_norm_first",
               "residual_norm_later", "massive_activation", "attention_to_first")  # fmt: skip
    head = ("block", ">‖k_u‖", ">‖k‖ prefixed", ">cosine", ">stream at first", ">later",
            ">massive", ">attention to first")  # fmt: skip
    table = parts.table(head, [[number(row[key]) for key in columns] for row in first["layers"]])
    lines: list[RenderableType] = []
    if alike:
        lines.append(
            f"cosine {number(alike['cosine'])} with the mean key of ordinary first tokens: more "
            f"than {rank(alike['later_percentile'])} later keys have"
        )
    if similar:
        lines.append(
            "mean similarity among ordinary keys (1 = identical): first tokens "
            f"{number(similar['first'])}, later tokens {number(similar['later'])}"
        )
    return [*lines, table]


def _findings(document: Document) -> RenderableType:
    return parts.table(
        None,
        [
            (
                Text(MARKS[finding.style], style=parts.STYLES[finding.style]),
                parts.dim(finding.id),
                f"{'not checked: ' if finding.style == 'none' else ''}{finding.message}",
            )
            for finding in verdicts.findings(document)
        ],
    )


def _measured_with(document: Document) -> list[str]:
    command = [document["command"]] if document["command"] else []
    return [*setup.notes(document), *setup.measured_with(document), *command]
