"""Data flows one way, and the house stays small: the source itself says so."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("rome_diagnosis", "probes", "diag", "reports")
MODELS = {"torch", "transformers", "transformer_lens", "safetensors"}
OUTSIDE = {"world", "tests", "benchmarks", "docs"}
# What a package must not import, not even inside a function.
NEVER = {
    "rome_diagnosis": {"diag", "reports", *MODELS, *OUTSIDE},
    "probes": {"diag", *OUTSIDE},
    "diag": {"transformer_lens", *OUTSIDE},
    "reports": {"diag", "probes", *MODELS, *OUTSIDE},
}
# What it may import inside functions alone: results show themselves, options become a setup.
LATER = {
    "rome_diagnosis": {"probes", "rich", "numpy", "pandas", "IPython"},
    "probes": {"reports"},
    "diag": {"reports"},
    "reports": set(),
}


@dataclass(frozen=True)
class Module:
    """A source file, read."""

    name: str
    path: Path
    tree: ast.Module


def read() -> Iterator[Module]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            yield Module(name, path, ast.parse(path.read_text(encoding="utf-8")))


TREE = list(read())

LONGEST_MODULE = 400  # lines
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8
MOST_MODULES = 15  # in a folder, __init__.py and conftest.py aside
# Functions that take more parameters, as path and name.
MANY_PARAMETERS = {
    # Library calls whose keyword arguments are the options of their commands.
    ("diag/covariance/api.py", "second_moments"),
    ("diag/screen/api.py", "screen"),
    ("diag/sequence/api.py", "sequence"),
    # Stands for EasyEdit's method, so it has that method's signature.
    ("tests/diag/apply/test_danger.py", "edit"),
}


def imported(node: ast.AST, *, at_once: bool = False) -> set[str]:
    """Dotted names that are imported.

    Args:
        node: Where to look.
        at_once: Leave out what functions import when they are called, and what is there for type
            checkers.

    Returns:
        The names; of ``from a import b`` both ``a`` and ``a.b``.
    """
    names: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            names |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and child.module:
            names |= {child.module, *(f"{child.module}.{alias.name}" for alias in child.names)}
        elif not (at_once and _is_later(child)):
            names |= imported(child, at_once=at_once)
    return names


def _is_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_the_reader_of_imports_sees_every_kind() -> None:
    source = (
        "import a.b\nfrom c import d\nif TYPE_CHECKING:\n    import e\n"
        "try:\n    import f\nexcept ImportError:\n    pass\n"
        "class G:\n    import g\n    def method(self):\n        from h import i\n"
    )
    tree = ast.parse(source)
    assert imported(tree) == {"a.b", "c", "c.d", "e", "f", "g", "h", "h.i"}
    assert imported(tree, at_once=True) == {"a.b", "c", "c.d", "f", "g"}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_comes_before_them(package: str) -> None:
    seen: set[str] = set()
    for module in TREE:
        if module.name.partition(".")[0] != package or module.name == "rome_diagnosis":
            continue
        names = roots(imported(module.tree))
        assert not names & NEVER[package], module.path
        assert not roots(imported(module.tree, at_once=True)) & LATER[package], module.path
        seen |= names
    # The control: the packages that may be imported are, so the reader did see imports.
    assert {"rome_diagnosis"} <= seen
    assert package != "diag" or {"probes", "reports"} <= seen
    assert package != "probes" or {"transformer_lens", "reports"} <= seen


def test_the_facade_alone_knows_everybody_and_imports_nobody() -> None:
    (facade,) = (module for module in TREE if module.name == "rome_diagnosis")
    assert {"diag", "probes", "reports"} <= roots(imported(facade.tree))
    assert roots(imported(facade.tree, at_once=True)) == {"typing", "rome_diagnosis"}


def test_only_the_options_turn_to_probes() -> None:
    turning = {
        module.name
        for module in TREE
        if module.name.startswith("rome_diagnosis.") and "probes" in roots(imported(module.tree))
    }
    assert turning == {"rome_diagnosis.options.model"}


RUN = {"model", "_model", "bridge", "base_model", "original_model", "run_with_hooks", "_upper"}


def test_a_model_is_run_in_one_place() -> None:
    running = {
        module.name
        for module in TREE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in RUN
        and module.name.partition(".")[0] in PACKAGES
    }
    forward = {name for name in running if name.startswith("probes.forward.")}
    # Where a model is loaded, it is none of ours yet; the encoder is a control and never one.
    loading = {"probes.model.bridge", "probes.model.contribution"}
    assert running - forward == {*loading, "probes.first_token.encoder"}
    assert {f"probes.forward.{each}" for each in ("bridge", "unhooked", "above")} <= forward


def test_no_module_needs_itself_to_be_imported() -> None:
    names = {module.name for module in TREE}
    needs = {
        module.name: {
            other
            for other in imported(module.tree, at_once=True) & names
            # A package is there before what lies in it.
            if not f"{module.name}.".startswith(f"{other}.")
        }
        for module in TREE
    }
    assert sum(map(len, needs.values())) > 100
    list(graphlib.TopologicalSorter(needs).static_order())
    needs["rome_diagnosis.errors"] = {"diag.keys.run"}
    with pytest.raises(graphlib.CycleError):  # the control
        list(graphlib.TopologicalSorter(needs).static_order())


def test_no_folder_needs_itself() -> None:
    """Within a package commands do not lean on one another in circles, not even in a function."""
    needs: dict[str, set[str]] = {}
    names = {module.name for module in TREE}
    for module in TREE:
        if module.name in PACKAGES:  # what a package offers lazily is no need of it
            continue
        folder = _folder(module.name)
        others = {_folder(name) for name in imported(module.tree) & names}
        package = module.name.split(".")[0] + "."
        needs.setdefault(folder, set()).update(
            other for other in others if other.startswith(package) and other != folder
        )
    assert "diag.mathematics" in needs["diag.judgement"]
    list(graphlib.TopologicalSorter(needs).static_order())
    needs["diag.mathematics"].add("diag.judgement")
    with pytest.raises(graphlib.CycleError):  # the control
        list(graphlib.TopologicalSorter(needs).static_order())


def _folder(name: str) -> str:
    return ".".join(name.split(".")[:2])


def test_reports_render_without_torch() -> None:
    script = (
        "import sys, reports.command, reports.pages.page, reports.text.keys\n"
        "reports.pages.page._environment().get_template('page.html.j2')\n"
        "assert not {'torch', 'transformers', 'diag', 'probes'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_says_what_it_is_for() -> None:
    for module in TREE:
        first = (ast.get_docstring(module.tree) or "").partition("\n")[0]
        assert len(first) >= 12, module.path
        assert first.rstrip()[-1] in ".?:", module.path
    for folder in {module.path.parent for module in TREE}:
        assert (folder / "__init__.py").exists(), folder


@dataclass(frozen=True)
class Function:
    """A function, measured."""

    name: str
    lines: int
    parameters: int


def functions(tree: ast.Module) -> Iterator[Function]:
    """Every function and method; ``*args`` and ``**kwargs`` are not counted as parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(node.name, lines, len(named))


def sources() -> dict[str, str]:
    """Every Python file of the packages, their tests and benchmarks, by path."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in (*PACKAGES, "tests", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_functions_are_measured() -> None:
    tree = ast.parse(
        "def f(a, /, b, *args, c, **kwargs):\n    def g():\n        pass\n"
        "class H:\n    async def i(self):\n        pass\n"
    )
    assert set(functions(tree)) == {Function("f", 3, 3), Function("g", 2, 0), Function("i", 2, 1)}


def test_modules_and_functions_are_short() -> None:
    long_modules, long_functions, many_parameters = [], set(), set()
    for path, source in sources().items():
        if len(source.splitlines()) > LONGEST_MODULE:
            long_modules.append(path)
        for function in functions(ast.parse(source)):
            if function.lines > LONGEST_FUNCTION:
                long_functions.add((path, function.name))
            if function.parameters > MOST_PARAMETERS:
                many_parameters.add((path, function.name))
    assert not long_modules
    assert not long_functions
    assert many_parameters == MANY_PARAMETERS


def test_libraries_know_no_command_line() -> None:
    """Only commands, and what they share, read one."""
    reading = {
        module.name
        for module in TREE
        if {"argparse", "rome_diagnosis.options"} & imported(module.tree)
        and module.name.rpartition(".")[2] not in ("command", "__main__")
    }
    assert {name for name in reading if not name.startswith("rome_diagnosis.options")} == {
        "diag.verify.parsed"
    }


def test_an_option_is_declared_once() -> None:
    """In the options that commands share, or by the one command that has it."""
    declared: dict[str, set[str]] = {}
    for module in TREE:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                for word in node.args:
                    if isinstance(word, ast.Constant) and str(word.value).startswith("--"):
                        declared.setdefault(str(word.value), set()).add(module.name)
    assert len(declared) > 60  # the control
    several = {option for option, where in declared.items() if len(where) > 1}
    # What goes there is another thing for each command; hard cases say how many are performed.
    assert several == {"--output", "--perform"}


# Verbs that say nothing without their object: each is the name of one function at most.
VAGUE = {
    "check", "choose", "compare", "describe", "draw", "estimate", "forecast", "load", "measure",
    "perform", "read", "write",
}  # fmt: skip


def test_one_name_is_one_thing() -> None:
    """No two classes share a name, but a value and what documents say of it."""
    classes: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    verbs: Counter[str] = Counter()
    for module in TREE:
        in_documents = module.name.startswith("rome_diagnosis.schema")
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[in_documents][node.name] += 1
            elif isinstance(node, ast.FunctionDef) and node.name in VAGUE:
                verbs[node.name] += 1
    for names in classes.values():
        assert len(names) > 100  # the control
        assert not [name for name, n in names.items() if n > 1]
    assert not [name for name, n in verbs.items() if n > 1]


def test_folders_are_small() -> None:
    sizes = Counter(
        path.rpartition("/")[0]
        for path in sources()
        if not path.endswith(("/__init__.py", "/conftest.py"))
    )
    assert sizes["probes/second_moment"] > 10  # the control
    assert not {folder: n for folder, n in sizes.items() if n > MOST_MODULES}


def test_every_package_says_what_is_in_it() -> None:
    packages = {path: text for path, text in sources().items() if path.endswith("/__init__.py")}
    for path, text in packages.items():
        if not path.startswith("tests/"):
            assert ast.get_docstring(ast.parse(text)), path
    assert "probes/first_token/__init__.py" in packages


def subject(test: str) -> str | None:
    """What a test module of a package is about, by its name.

    Args:
        test: Its path, e.g. ``tests/diag/screen/test_command_layers.py``.

    Returns:
        The module or folder with the longest name that the test's begins with, an aspect left out:
        ``diag/screen/command.py``; ``None`` if there is none.
    """
    path = Path(test).relative_to("tests")
    words = path.stem.removeprefix("test_").split("_")
    for n in range(len(words), 0, -1):
        about = path.with_name("_".join(words[:n]))
        for source in (about.with_suffix(".py"), about / "__init__.py"):
            if (ROOT / source).exists():
                return source.as_posix()
    return None


def test_a_test_is_about_the_module_it_is_named_after() -> None:
    assert subject("tests/diag/screen/test_command_layers.py") == "diag/screen/command.py"
    assert subject("tests/probes/keys/test_many_edits_x.py") == "probes/keys/many_edits.py"
    assert subject("tests/reports/test_text.py") == "reports/text/__init__.py"
    assert subject("tests/diag/screen/test_nothing.py") is None  # the control
    tests = [path for path in sources() if Path(path).name.startswith("test_")]
    mirroring = [path for path in tests if path.split("/")[1] in PACKAGES]
    assert len(mirroring) > 100
    assert not [path for path in mirroring if subject(path) is None]


def test_folders_of_tests_mirror_the_packages_or_have_a_theme() -> None:
    folders = {Path(path).parent for path in sources() if path.startswith("tests/")}
    for folder in folders - {Path("tests")}:
        mirrored = folder.relative_to("tests")
        if mirrored.parts[0] in PACKAGES:
            assert (ROOT / mirrored / "__init__.py").exists(), folder
        else:
            package = ast.parse((ROOT / folder / "__init__.py").read_text(encoding="utf-8"))
            assert ast.get_docstring(package), folder
    assert {Path("tests/diag/keys"), Path("tests/house")} <= folders
