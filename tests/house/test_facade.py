"""Everything by one name, imported when it is first used; foreign packages are noticed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import rome_diagnosis

ROOT = Path(__file__).parents[2]


def test_every_name_is_there_listed_and_the_one_it_stands_for() -> None:
    assert set(rome_diagnosis.__all__) <= set(dir(rome_diagnosis))
    for name in rome_diagnosis.__all__:
        assert getattr(rome_diagnosis, name) is not None
    assert rome_diagnosis.diagnose is importlib.import_module("diag.keys").diagnose
    assert rome_diagnosis.verify is importlib.import_module("diag.verify").verify
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        rome_diagnosis.nothing  # noqa: B018


@pytest.mark.parametrize("package", ["diag", "probes", "reports"])
def test_a_package_lists_and_imports_its_subpackages(package: str) -> None:
    module = importlib.import_module(package)
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert folders
    assert folders <= set(dir(module))
    for name in folders:
        assert getattr(module, name).__name__ == f"{package}.{name}"
    assert not hasattr(module, "no_such_module")


def test_importing_the_toolkit_imports_nothing_heavy() -> None:
    script = (
        "import sys, rome_diagnosis, diag.keys, diag.verify, diag.screen, diag.covariance\n"
        "import diag.sequence, diag.hardcases\n"
        "import probes.first_token, probes.setup, reports\n"
        "dir(rome_diagnosis), dir(diag), rome_diagnosis.__version__\n"
        "assert not {'torch', 'transformers', 'numpy', 'pandas', 'rich'} & set(sys.modules)\n"
        "assert callable(diag.keys.diagnose)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["diag", "probes", "reports"])
@pytest.mark.parametrize("kind", ["module", "package"])
def test_a_foreign_package_is_named_in_one_line(name: str, kind: str, tmp_path: Path) -> None:
    foreign = tmp_path / (f"{name}.py" if kind == "module" else f"{name}/__init__.py")
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("")
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
    by_name = path + "from rome_diagnosis.__main__ import program; program()"
    done = subprocess.run(
        [sys.executable, "-c", by_name, "keys"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: Python imports another {name} than rome-diagnosis's: ")
    assert str(foreign) in done.stderr
    assert done.stderr.count("\n") == 1
    library = path + "import rome_diagnosis; rome_diagnosis.diagnose"
    done = subprocess.run([sys.executable, "-c", library], capture_output=True, text=True)
    assert f"UserError: Python imports another {name}" in done.stderr
