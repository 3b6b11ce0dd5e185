"""What is put together on a page, and how it is written."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from reports.pages.page import render
from rome_diagnosis.errors import UserError
from tests.reports.reading import words

Document = dict[str, Any]


def test_results_about_different_edits_are_not_put_together(
    keys: Document, performed: Document, evidence: Document
) -> None:
    for where, name in (("request", "prompt"), ("site", "layer"), ("model", "fingerprint")):
        other = copy.deepcopy(performed)
        other[where][name] = "{} is" if name == "prompt" else 99
        with pytest.raises(UserError, match="different"):
            render(keys, other)
    for documents in ((keys, evidence), (keys, keys)):
        with pytest.raises(UserError, match="a page shows one result"):
            render(*documents)
    with pytest.raises(UserError, match="known are"):
        render({"schema": "other"})


def test_sentences_are_set_apart(pages: dict[str, str]) -> None:
    for name in ("keys", "edit", "group"):
        assert re.search(
            r"ridge [\d.e−]+(, rounding [^.]+\.[^.]+)?\. \d+ prefixed contexts", words(pages[name])
        )
