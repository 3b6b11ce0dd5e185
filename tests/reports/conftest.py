"""Pages of recorded documents, a browser to open them in, and a list of edits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reports.document import read_document
from reports.pages.page import render
from tests import browser
from tests.documents import EVIDENCE, FOLDER, sample

Document = dict[str, Any]


class Pages(dict[str, str]):
    """A page of every kind, each rendered when a test first asks for it."""

    def __missing__(self, name: str) -> str:
        self[name] = render(*(_document(part) for part in PAGES[name]))
        return self[name]


PAGES = {
    "keys": ("keys",), "edit": ("edit",), "both": ("keys", "edit"),
    "all": ("keys", "edit", "first_token"), "identity": ("keys_identity",),
    "first_token": ("first_token",), "group": ("evidence",), "screened": ("screen",),
    "layers": ("screen_layers",),
    "moments": ("covariance",), "sequence": ("sequence_performed",), "sweep": ("sweep",),
    "compare": ("compare",),
    "batch": ("batch",), "apply": ("apply",),
    "hardcases": ("hardcases",),
    "tasks": ("tasks",), "surrogate": ("surrogate",),
}  # fmt: skip


def _document(name: str) -> Document:
    if name == "evidence":
        return read_document(str(EVIDENCE))
    return read_document(str(FOLDER / f"{name}.json.gz"))


@pytest.fixture(scope="session")
def pages() -> Pages:
    return Pages()


@pytest.fixture(scope="session")
def tab() -> Iterator[browser.Tab]:
    path = browser.installed()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(browser.NAMES)} is installed")
    with browser.browser(path) as opened:
        yield opened


@pytest.fixture
def forecast() -> Document:
    """A list of edits that was not made."""
    return sample("sequence")


@pytest.fixture
def made() -> Document:
    """A list of edits that was made, until it broke the model."""
    return sample("sequence_performed")
