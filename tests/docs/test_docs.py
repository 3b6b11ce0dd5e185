"""What the documentation names is there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import yaml

import rome_diagnosis as rd
from tests.written import RESULTS

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_every_figure_named_is_a_method_of_a_result() -> None:
    named = set(re.findall(r"`(plot_\w+)`", (DOCS / "papers.md").read_text(encoding="utf-8")))
    results = [getattr(import_module(module), name) for module, names in RESULTS.items()
               for name in names]  # fmt: skip
    known = {name for result in results for name in dir(result) if name.startswith("plot_")}
    assert named and named <= known
    # Every figure but that of second moments is named.
    assert known - named <= {"plot_convergence", "plot_directions_pca", *_of_first_tokens()}


def _of_first_tokens() -> set[str]:
    probes = import_module("probes.first_token.run").FirstTokenProbes
    return {name for name in dir(probes) if name.startswith("plot_")}


def test_every_library_call_is_in_the_reference() -> None:
    page = (DOCS / "api" / "library.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE))
    calls = {f"{call.__module__}.{name}" for name in rd.__all__
             if callable(call := getattr(rd, name)) and name != "UserError"}  # fmt: skip
    assert len(calls) > 15
    assert not {call for call in calls if not {call, call.rpartition(".")[0]} & described}


def test_every_page_is_in_the_navigation() -> None:
    text = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text)["nav"]
    named = set(re.findall(r"[\w/-]+\.md", str(nav)))
    assert named == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_the_gallery_shows_every_picture_there_is_and_none_is_large() -> None:
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\]\((gallery/[\w.]+)\)", page))
    pictures = {f"gallery/{path.name}": path for path in (DOCS / "gallery").iterdir()}
    assert named == set(pictures) and len(named) == page.count("![")
    assert all(path.stat().st_size < 150_000 for path in pictures.values())
