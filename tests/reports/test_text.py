"""Documents of every kind as text in a terminal."""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any

import pytest
from rich.console import Console

from reports.command import show
from reports.document import read_document
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
from tests.reports.reading import printed

Document = dict[str, Any]
TEXTS = {
    "keys": keys_text.show, "keys_identity": keys_text.show, "edit": verify.show,
    "edits": verify.show, "screen": screen.show, "screen_layers": sections.show,
    "covariance": covariance.show,
    "first_token": first_token.show, "sweep": sweep.show, "batch": batch.show,
    "apply": apply.show, "hardcases": hardcases.show,
}  # fmt: skip


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
