"""A new editor is one row of the table: text, Markdown and pages show it without being touched."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path
from typing import Any

import pytest

from reports import markdown
from reports.figures import edit as figures
from reports.figures import many
from reports.pages.page import render
from reports.tables import editors, terms
from reports.tables.edits import edits
from reports.text import keys as keys_text
from reports.text import verify
from rome_diagnosis.editors import ARMS, EDITORS, Editor
from rome_diagnosis.methods import METHODS
from tests.reports.reading import parse, printed, words

Document = dict[str, Any]
NEW = Editor(
    "fourth", along="mean", divide_by="mean", subtract="bare", label="FOURTH, in full",
    short="FOURTH", formula="λ + k̄ᵀC⁻¹k̄", note="a made-up one", colour="#7a1fa2", marker="P",
)  # fmt: skip


def with_editor(document: Document, name: str) -> Document:
    """A document in which a further editor measured what C-ROME did."""
    changed = copy.deepcopy(document)

    def add(holder: Any) -> None:
        if isinstance(holder, list):
            for part in holder:
                add(part)
        elif isinstance(holder, dict):
            if "c_rome" in holder:
                holder[name] = copy.deepcopy(holder["c_rome"])
            for column in [key for key in holder if key.endswith("_c_rome")]:
                holder[column.removesuffix("c_rome") + name] = holder[column]
            for value in holder.values():
                add(value)

    add(changed)
    return changed


def shown(keys: Document, performed: Document, group: Document, screened: Document) -> list[str]:
    """Everything that can be shown of these documents."""
    return [
        printed(keys_text.show, keys), printed(keys_text.show, keys, verbose=True),
        printed(verify.show, performed), printed(verify.show, group),
        words(render(keys)), words(render(performed)), words(render(group)),
        words(render(screened)), markdown.render(keys), markdown.render(performed),
        markdown.render(group),
    ]  # fmt: skip


@pytest.fixture
def documents(
    keys: Document, performed: Document, evidence: Document, screened: Document
) -> list[Document]:
    evidence = evidence | {"edits": evidence["edits"][:6], "projections": None}
    return [keys, performed, evidence, screened]


def test_a_fourth_editor_is_shown_everywhere(
    documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EDITORS, NEW.name, NEW)  # type: ignore[arg-type]
    assert not any("FOURTH" in text for text in shown(*documents))  # the control
    more = [with_editor(document, NEW.name) for document in documents]
    for text in shown(*more):
        assert "FOURTH" in text
        assert text.index("ROME") < text.index("C-ROME") < text.index("FOURTH")
    page = render(more[0], more[1])
    parse(page)
    assert "of-fourth" in page and f"--fourth: {NEW.colour}" in page
    assert "a made-up one" in page and "λ + k̄ᵀC⁻¹k̄" in page
    assert page.count("var(--fourth)") > 3  # in figures too


def test_figures_draw_a_fourth_editor(
    documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EDITORS, NEW.name, NEW)  # type: ignore[arg-type]
    keys, performed, group, _ = (with_editor(document, NEW.name) for document in documents)
    drawn = [
        figures.terms(terms.of_keys(keys)), figures.perplexity(performed, 10.0),
        figures.shares(performed), many.closed_form(edits(group)),
        many.perplexity(edits(group), 10.0, {}),
    ]  # fmt: skip
    for drawing in drawn:
        assert drawing and "FOURTH" in drawing.alt and "var(--fourth)" in drawing.__html__()


def test_an_editor_that_is_not_known_is_shown_last_under_its_name(
    documents: list[Document],
) -> None:
    more = [with_editor(document, "mend") for document in documents]
    for text in shown(*more):
        assert "mend" in text
        assert text.index("P-ROME") < text.index("mend")
    page = render(more[0], more[1])
    parse(page)
    assert "of-unknown" in page and "of-mend" not in page


@pytest.mark.parametrize("missing", ["p_rome", "c_rome", "rome"])
def test_an_editor_that_a_document_lacks_is_not_shown(
    missing: str, documents: list[Document]
) -> None:
    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: without(part)
                for name, part in value.items()
                if name not in (missing, f"{missing}_prefixed", f"d_{missing}", f"bound_{missing}")
            }
        return [without(part) for part in value] if isinstance(value, list) else value

    keys, performed, group, screened = (without(document) for document in documents)
    for text in shown(keys, performed, group, screened):
        assert text
    label = editors.editor(missing).described
    assert label not in words(render(keys)) or missing == "rome"
    assert label in words(render(documents[0])) or missing == "rome"


def test_looks_are_told_apart() -> None:
    looks = editors.looks()
    assert [look.name for look in looks] == list(ARMS)
    assert len({look.colour for look in looks}) == len({look.marker for look in looks}) == len(ARMS)
    assert {arm.editor for arm in ARMS.values()} <= set(EDITORS)


def texts(code: str) -> set[str]:
    """The strings of some code, docstrings left out."""
    tree = ast.parse(code)
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    docstrings = {id(n.body[0].value) for n in ast.walk(tree)  # type: ignore[attr-defined]
                  if isinstance(n, documented) and ast.get_docstring(n) is not None}  # fmt: skip
    return {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)
            and isinstance(n.value, str) and id(n) not in docstrings}  # fmt: skip


def test_nobody_but_the_tables_names_an_editor_or_a_method() -> None:
    assert texts('"""c_rome"""\nx = "rome" + y') == {"rome"}  # the control
    root = Path(editors.__file__).parents[2]
    # Which method a file is for, told by the fields that only its published code reads.
    of_files = {"probes/target_value/method_file.py"}
    for package in ("diag", "probes", "reports"):
        for path in (root / package).rglob("*.py"):
            named = texts(path.read_text(encoding="utf-8"))
            assert not named & {*EDITORS, *ARMS}, path
            if path.relative_to(root).as_posix() not in of_files:
                assert not named & {*METHODS}, path


def test_templates_and_styles_name_no_editor() -> None:
    root = Path(editors.__file__).parents[1]
    shown = "|".join(re.escape(editor.short) for editor in EDITORS.values())
    named = re.compile(rf"\b({shown})\b|['\"](rome|c_rome|p_rome)['\"]|[-.]c_?-?rome\b")
    assert named.search("by C-ROME") and named.search(".c-rome {")  # the control
    for path in [*root.rglob("*.j2"), *root.rglob("*.css")]:
        assert not named.search(path.read_text(encoding="utf-8")), path
