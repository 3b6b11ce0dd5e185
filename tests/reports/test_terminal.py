"""Documents as text in a terminal: fifteen lines of argument, and everything on request."""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from reports.__main__ import main
from reports.command import show
from reports.document import read_document
from reports.numbers import (
    chance,
    counted,
    estimated,
    fixed,
    number,
    percent,
    rank,
    share,
    share_of,
    times,
)
from reports.tables.verdicts import label
from reports.text import (
    apply,
    batch,
    covariance,
    first_token,
    hardcases,
    screen,
    sections,
    sweep,
    verify,
)
from reports.text import keys as keys_text
from tests.documents import FOLDER, SAMPLES, sample
from tests.reports.reading import printed, words

Document = dict[str, Any]
TEXTS = {
    "keys": keys_text.show, "keys_identity": keys_text.show, "edit": verify.show,
    "edits": verify.show, "screen": screen.show, "screen_layers": sections.show,
    "covariance": covariance.show,
    "first_token": first_token.show, "sweep": sweep.show, "batch": batch.show,
    "apply": apply.show, "hardcases": hardcases.show,
}  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", ["keys", "keys_identity"])
def test_a_diagnosis_is_an_argument_of_fifteen_lines(name: str, width: int) -> None:
    document, sentence = (
        sample(name),
        "A sentence of sixty characters that says what this comes to. ",
    )
    document["summary"] = sentence * 30
    text = printed(keys_text.show, document, width=width)
    assert 10 <= len(text.splitlines()) <= 15
    sentences = text.count("sixty")
    assert sentences >= 1
    document["summary"] = sentence * sentences
    assert printed(keys_text.show, document, width=width) == text  # none is cut in two


def test_an_argument_says_what_its_verdict_rests_on(keys: Document) -> None:
    text = printed(keys_text.show, keys)
    denominators = keys["denominators"]
    for part in (
        label(keys["verdict"]).text.upper(), "Apple was founded by", "'Apple', index 0",
        *(number(denominators[name]) for name in ("rome", "c_rome", "p_rome", "ratio")),
        number(denominators["ratio_interval"][0]),
        number(keys["keys"]["whitened_cosine"]), percent(keys["damage"]["rome"]["relative_bound"]),
        "--verbose",
    ):  # fmt: skip
        assert part in text
    assert "first_token_key" not in text


def test_verbose_shows_numbers_reasons_and_what_was_measured_with(keys: Document) -> None:
    text = " ".join(printed(keys_text.show, keys, verbose=True).split())
    assert "ROME as published" in text and "✗" in text and "✓" in text
    for finding in keys["findings"]:
        assert finding["id"] in text and " ".join(finding["message"].split())[:60] in text
    for row in keys["first_token"]["layers"]:
        assert number(row["key_norm_unprefixed"]) in text
    assert "condition number" in text and "--layer 1" in text


def test_safe_beside_a_failed_ratio_is_one_line_of_reasoning(keys: Document) -> None:
    for finding in keys["findings"]:
        finding["status"] = "fail" if finding["id"] == "ratio" else "pass"
    text = printed(keys_text.show, keys | {"verdict": "safe"}, verbose=True)
    assert "✗" not in text and "ratio explains how the update" in text
    assert "✗" in printed(keys_text.show, keys | {"verdict": "collapse_risk"}, verbose=True)


def test_every_kind_of_document_has_a_text(
    performed: Document, probes: Document, screened: Document, evidence: Document
) -> None:
    assert "ROME as published" not in printed(verify.show, performed)
    assert "C-ROME + prefix" in printed(verify.show, performed)
    text = printed(verify.show, evidence)
    assert "Of 200 edits, 41 broke the model with ROME" in text and "AUC 0.991" in text
    assert "Riskiest edits" in printed(screen.show, screened)
    assert "condition number" in printed(covariance.show, sample("covariance"))
    text = printed(first_token.show, probes)
    for effect in probes["interventions"]["effects"]:
        assert effect["name"] in text


def test_the_command_prints_first_token_probes_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FOLDER / "first_token.json.gz")]) == 0
    assert "Attribution of Δρ" in capsys.readouterr().out


def plain(text: str) -> str:
    """A text with ordinary blanks alone."""
    return text.replace("\u00a0", " ")


def _without_sentences(value: Any) -> Any:
    """A document whose own texts hold no numbers: those shown are the renderer's."""
    if isinstance(value, dict):
        return {name: _without_sentences(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_sentences(part) for part in value]
    return re.sub(r"[\d-]", "", value) if isinstance(value, str) and " " in value else value


@pytest.mark.parametrize("name", TEXTS)
def test_numbers_have_one_minus_sign(name: str) -> None:
    document = _without_sentences(sample(name))
    options = {}
    if name == "keys":
        document["denominators"]["rome"] = -0.25
        options = {"verbose": True}
    shown, *_ = printed(TEXTS[name], document, width=300, **options).split("Measured with")
    assert not re.search(r"(?<![\w.])-\d", shown)
    assert name != "keys" or "−0.25" in shown  # the control


@pytest.mark.parametrize("name", SAMPLES)
def test_eighty_columns_break_no_word(name: str) -> None:
    document = read_document(str(FOLDER / f"{name}.json.gz"))
    wide, narrow = (Counter(words_of(width, document)) for width in (400, 80))
    assert not [word for word in wide - narrow if len(word) > 2]
    assert wide - Counter(words_of(16, document))  # the control


def words_of(width: int, document: Document) -> list[str]:
    """The words of a document's text in a terminal."""
    written = io.StringIO()
    show(document, Console(width=width, file=written, highlight=False), verbose=True)
    return written.getvalue().split()


def test_sentences_are_set_apart(pages: dict[str, str]) -> None:
    for name in ("keys", "edit", "group"):
        assert re.search(
            r"ridge [\d.e−]+(, rounding [^.]+\.[^.]+)?\. \d+ prefixed contexts", words(pages[name])
        )


def test_numbers_are_written_one_way() -> None:
    assert [number(x) for x in (None, 0, 0.0, 3, -0.5, 1234.5, 1e-5, 2.5e7, 12345)] == [
        "–", "0", "0", "3", "−0.5", "1,234", "1.00e−05", "2.50e+07", "12,345",
    ]  # fmt: skip
    assert [times(x) for x in (None, 1.0, 1.9, 24.0, 99.99, 123.4, -2.0, 6107.3, 1e-5)] == [
        "–", "1.00×", "1.90×", "24.0×", "100×", "123×", "−2.00×", "6,107×", "1.00e−05×",
    ]  # fmt: skip
    assert [plain(percent(x)) for x in (None, 0.857, 1.0, 32.08, 0.0404, -0.5)] == [
        "–", "85.7 %", "100 %", "3,208 %", "4.04 %", "−50 %",
    ]  # fmt: skip
    assert [plain(share(x)) for x in (None, 0.0, -0.001, 0.454, 1.0, -0.04)] == [
        "–", "0 %", "0 %", "45 %", "100 %", "−4 %",
    ]  # fmt: skip
    assert [fixed(x) for x in (None, 0.0, -0.0001, 0.25, -1.5)] == [
        "–", "0.000", "0.000", "0.250", "−1.500",
    ]  # fmt: skip
    assert [chance(x) for x in (None, 0.004, 0.25)] == ["–", "< 0.005", "0.25"]
    assert [plain(rank(x)) for x in (0.0, 0.001, 0.5, 0.999, 1.0)] == [
        "none of the", "1 % of", "50 % of", "99 % of", "all",
    ]  # fmt: skip


def test_one_is_no_plural_and_has_no_interval() -> None:
    assert [counted(n, "edit") for n in (0, 1, 2, 2000)] == [
        "0 edits", "1 edit", "2 edits", "2,000 edits",
    ]  # fmt: skip
    assert counted(1, "process", "processes") == "1 process"
    found = {"mean": 25.1, "low": 25.1, "high": 25.1}
    assert estimated(found | {"n": 1}) == ("25.1", "")
    assert estimated(found | {"n": 4}) == ("25.1", "")
    assert estimated(found | {"n": 5}) == ("25.1", "25.1 to 25.1")
    kept = {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 44}
    assert estimated(kept, share) == ("100\u00a0%", "92 to 100")
    assert (share_of(0.8, 5), share_of(0.99, 100)) == ("4 of 5", "99\u00a0% (95 to 100)")
    assert estimated(found, share, between=", ") == ("2510\u00a0%", "2510, 2510")
