"""Data flows one way: the imports say so."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "probes": {"diag", "world", "tests"},
    "diag": {"transformer_lens", "world", "tests"},
    "reports": {"diag", "probes", "torch", "transformers", "transformer_lens", "world", "tests"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_what_stands_before_them(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        assert not imported(file) & FORBIDDEN[package], file


@pytest.mark.parametrize("package", ["probes", "diag"])
def test_results_import_reports_only_when_they_show_themselves(package: str) -> None:
    lazily = 0
    for file in (ROOT / package).rglob("*.py"):
        at_import = imported_at_once(ast.parse(file.read_text(encoding="utf-8")))
        assert "reports" not in at_import, file
        lazily += "reports" in imported(file)
    assert lazily  # the check sees those inside functions


def imported_at_once(tree: ast.Module) -> set[str]:
    """What importing a module imports: its own statements, those for type checkers left out."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_the_check_sees_imports_inside_functions() -> None:
    assert "transformer_lens" in imported(ROOT / "probes" / "model" / "load.py")


def test_reports_render_without_torch() -> None:
    script = (
        "import sys, reports.__main__, reports.pages.page, reports.text.keys\n"
        "reports.pages.page._environment().get_template('page.html.j2')\n"
        "assert not {'torch', 'transformers', 'diag', 'probes'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_package_exports_a_name_of_its_module() -> None:
    for package in FORBIDDEN:
        names = set(ast.literal_eval(repr(sorted(p.stem for p in (ROOT / package).glob("*.py")))))
        tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
        defined = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not defined & names
