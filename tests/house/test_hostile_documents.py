"""Text from outside, in every field of every document: it is shown, and does nothing.

Text, Markdown and pages of documents full of hostile strings have the structure of the pages of
the documents as they were; what differs is text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from markdown_it import MarkdownIt

from reports import markdown
from reports.document import read_document
from reports.pages.page import fragment, render
from reports.text import batch, covariance, first_token, hardcases, screen, sections, sweep, verify
from reports.text import keys as keys_text
from rome_diagnosis.text import clean
from tests.documents import FOLDER
from tests.reports.reading import HOSTILE, parse, printed
from tests.rome_diagnosis.test_text import harmless

Document = dict[str, Any]
SHOWN = {
    "keys": keys_text.show, "keys_identity": keys_text.show, "edit": verify.show,
    "edits": verify.show, "screen": screen.show, "screen_layers": sections.show,
    "covariance": covariance.show,
    "first_token": first_token.show, "sweep": sweep.show, "batch": batch.show,
    "hardcases": hardcases.show,
}  # fmt: skip
# Fields that say what kind of thing something is: a document that is valid holds one of a few.
CLOSED = {
    "schema", "verdict", "status", "direction", "kind", "site", "cells", "outcome", "checked",
    "c_rome_target", "agreement", "fingerprint", "table", "made",
}  # fmt: skip
INLINE = {"text", "text_special", "strong_open", "strong_close"}
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _fields(value: Any, name: str = "") -> Iterator[tuple[Any, Any]]:
    """Places of texts that may hold anything: a container, and a key or an index in it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in pairs:
        own = key if isinstance(key, str) else name
        if isinstance(part, str) and own not in CLOSED:
            yield value, key
        elif isinstance(part, dict | list) and own not in ("cells", "projections"):
            yield from _fields(part, own)


def _document(name: str) -> Document:
    document = read_document(str(FOLDER / f"{name}.json.gz"))
    if "rows" in document:
        document["rows"] = document["rows"][:4]
    return document


def hostile(name: str, turn: int) -> Document:
    """A document whose every open text is a hostile one, each field another one every turn."""
    document = _document(name)
    for i, (holder, key) in enumerate(_fields(document)):
        text = HOSTILE[(i + turn) % len(HOSTILE)]
        holder[key] = f"{text[:9]}{{}} {text}".replace("{{}}", "") if key == "prompt" else text
        if key == "prompt":
            holder[key] = f"before {{}} {text.replace('{', '(').replace('}', ')')}"
    return document


def test_every_kind_has_open_fields() -> None:
    """The control: what is replaced is most of what there is, names of editors apart."""
    for name in SHOWN:
        places = list(_fields(_document(name)))
        assert len(places) >= 8, name
    document = hostile("keys", 0)
    written = json.dumps(document, ensure_ascii=False)
    assert all(json.dumps(text, ensure_ascii=False)[1:-1] in written for text in HOSTILE)


@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.parametrize("turn", range(len(HOSTILE)))
def test_a_terminal_gets_text_alone(name: str, turn: int) -> None:
    options = {"verbose": True} if SHOWN[name] is keys_text.show else {}
    text = printed(SHOWN[name], hostile(name, turn), **options)
    assert all(harmless(character) for character in text.replace("\n", ""))
    text.encode("utf-8")


def _structure(source: str) -> list[tuple[str, str, int]]:
    tokens = PARSER.parse(source)
    for token in tokens:
        assert {part.type for part in token.children or ()} <= INLINE, token.content[:200]
    return [(token.type, token.tag, token.nesting) for token in tokens]


@pytest.mark.parametrize("name", SHOWN)
def test_markdown_keeps_its_structure(name: str) -> None:
    expected = _structure(markdown.render(_document(name)))
    for turn in range(len(HOSTILE)):
        written = markdown.render(hostile(name, turn))
        assert all(harmless(character) for character in written.replace("\n", ""))
        assert _structure(written) == expected


def test_the_parser_sees_what_is_not_escaped() -> None:
    """The control: the same strings in a line of their own do mean something."""
    noticed = 0
    for text in HOSTILE:
        try:
            noticed += _structure(f"{text}\n") != _structure("text\n")
        except AssertionError:
            noticed += 1
    assert noticed >= 6


@pytest.mark.parametrize("name", SHOWN)
def test_pages_keep_their_elements_and_attributes(name: str) -> None:
    expected = parse(render(_document(name)))
    for turn in (0, 7):
        document = hostile(name, turn)
        page = render(document)
        page.encode("utf-8")
        assert all(harmless(character) or character in "\n\t" for character in page)
        tags = parse(page)
        assert tags.attributes <= expected.attributes
        assert set(tags.opened) <= set(expected.opened)
        assert page.count("<script") == 1  # its own
        assert "base-uri 'none'; form-action 'none'" in page
        parse(fragment(document))


def test_what_is_replaced_is_shown(performed: Document) -> None:
    arms = list(performed["arms"].values())
    for start in range(0, len(HOSTILE), len(arms)):
        texts = HOSTILE[start : start + len(arms)]
        for arm, text in zip(arms, texts, strict=False):
            arm["efficacy"]["generated"] = text
        shown = "".join(parse(fragment(performed)).text)
        assert all(clean(text) in shown for text in texts)


def test_a_number_that_is_a_text_is_escaped(keys: Document) -> None:
    evil = "1 | <i> \x1b[2J [x](y)"
    keys["lookup"]["unprefixed"]["index"] = keys["site"]["layer"] = evil
    keys["findings"][0]["status"] = evil
    written = markdown.render(keys)
    assert "\x1b" not in written
    _structure(written)
    assert "\x1b" not in printed(keys_text.show, keys, verbose=True)


def test_names_are_texts_too(evidence: Document, probes: Document) -> None:
    evil = "<i>|`x`\x1b[2J"
    few = evidence | {"edits": evidence["edits"][:2], "projections": None}
    few["groups"] = {evil: few["groups"]["first_token"]}
    shares = probes["attribution"]
    for part in ("shapley", "alone", "last"):
        shares[part] = {evil if n == "position" else n: v for n, v in shares[part].items()}
    for document, show in ((few, verify.show), (probes, first_token.show)):
        assert "\x1b" not in printed(show, document)
        _structure(markdown.render(document))
        assert "i" not in parse(render(document)).opened
