"""Recorded documents, the pages made from them, and a browser to open these in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reports.document import read_document
from reports.pages.page import render
from tests import browser
from tests.documents import EVIDENCE, FOLDER, sample

Document = dict[str, Any]


@pytest.fixture
def keys() -> Document:
    """A diagnosis whose verdict is neither safe nor collapse."""
    return sample("keys")


@pytest.fixture
def performed() -> Document:
    """The same edit, performed."""
    return sample("edit")


@pytest.fixture
def probes() -> Document:
    """First-token probes of the same model and block."""
    return sample("first_token")


@pytest.fixture
def screened() -> Document:
    """A screened data set with its rows."""
    return read_document(str(FOLDER / "screen.json.gz"))


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
