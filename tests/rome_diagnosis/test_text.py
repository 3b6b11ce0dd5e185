"""Whatever a text holds, it is shown and does nothing: in a terminal, in a file, in Markdown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rome_diagnosis.text import clean, cleaned, line, markdown

ANY = st.text(st.characters(exclude_categories=()))  # with halves of surrogate pairs
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MARKS = (
    "# heading", "- item", "+ item", "1. item", "2) item", "> quote", "---", "===", "***", "```",
    "~~~", "<b>bold</b>", "<!-- c -->", "&lt;", "*a* _b_ `c` ~~d~~", "[a](b)", "![a](b)", "<a@b.c>",
    "a | b", "[a]: b", "back\\slash", "    code", "a\n\nb", "a  \nb", "a\x85b", "1.", "a\u2028b",
)  # fmt: skip


def harmless(character: str) -> bool:
    """By Unicode's own classes: no control, no surrogate, nothing that reorders a line."""
    kind, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    return kind not in ("Cc", "Cs", "Zl", "Zp") and direction not in (
        "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
    )  # fmt: skip


@given(ANY)
@example("\x1b[31mred\x1b]0;title\x07 \x9b2J \u202eevil \ud83d \U000e0041\r\n\ttext")
def test_clean_text_can_be_encoded_and_holds_nothing_harmful(text: str) -> None:
    several = clean(text)
    assert all(harmless(character) or character in "\n\t" for character in several)
    several.encode("utf-8")
    one = line(text)
    assert all(map(harmless, one))
    assert clean(several) == several and line(one) == one


def test_the_classes_would_notice() -> None:
    """The control: harmful characters are harmful, ordinary ones of any script are not."""
    assert not any(map(harmless, "\x1b\x07\r\x9b\u202e\u2066\ud83d\u2028"))
    for ordinary in (
        "Apple",
        "שלום עולם",
        "日本語",
        "🙂👩‍🔬",
        "naïve – “quoted”",
        "a\u00a0b",
        "می‌خواهم",
    ):
        assert clean(ordinary) == line(ordinary) == ordinary
    assert line("a\r\nb\tc\nd") == "a b c d" and clean("a\r\nb\tc") == "a\nb\tc"
    assert clean("\x1b[0m") == r"\x1b[0m"


def test_a_document_is_cleaned_to_its_last_name() -> None:
    bad = "a\x1bb"
    document = {bad: [{"x": bad}, 1, None, True, (bad,)], "n": 0.5}
    assert cleaned(document) == {
        "a\\x1bb": [{"x": "a\\x1bb"}, 1, None, True, ["a\\x1bb"]], "n": 0.5,
    }  # fmt: skip
    assert document[bad] is not None  # the document itself is as it was


def _shown(source: str) -> str:
    """What a reader of the Markdown sees; fails where it is anything but one line of text."""
    tokens = PARSER.parse(source)
    if not source:
        return ""
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    parts = tokens[1].children or []
    assert {part.type for part in parts} <= {"text", "text_special"}, source
    return "".join(part.content for part in parts)


@pytest.mark.parametrize("text", MARKS)
def test_marks_of_markdown_stay_text(text: str) -> None:
    assert _shown(markdown(text)) == " ".join(line(text).split())


@given(ANY)
def test_any_text_stays_text_in_markdown(text: str) -> None:
    assert _shown(markdown(text)) == " ".join(line(text).split())


def test_the_parser_would_notice() -> None:
    noticed = 0
    for text in MARKS:
        try:
            noticed += _shown(text) != " ".join(line(text).split())
        except AssertionError:
            noticed += 1
    assert noticed >= len(MARKS) - 4  # "a | b" and blanks alone mean nothing outside a table


def test_values_that_are_no_text_are_written() -> None:
    assert (markdown(3), markdown(None), markdown(["<b>"])) == ("3", "None", r"\['\<b\>'\]")
