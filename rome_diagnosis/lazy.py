"""Names of a package that are imported when they are first used (PEP 562).

Importing a package then costs nothing, and ``dir()`` still lists what it offers.

The packages' names are common: a script or folder called ``diag``, earlier on Python's path, would
be imported instead, and what then fails would not say why. So another package is noticed and named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rome_diagnosis.errors import UserError

PACKAGES = ("diag", "probes", "reports")


def attach(
    package: str, names: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its ``__name__``.
        names: For each name it offers, the module that defines it; by default it offers its
            subpackages and modules.

    Returns:
        Both functions.
    """

    def get(name: str) -> Any:
        if name not in (_modules(package) if names is None else names):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        check_packages()
        if names is None:
            return import_module(f"{package}.{name}")
        value = getattr(import_module(names[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        own = [name for name in vars(sys.modules[package]) if name.startswith("__")]
        return sorted({*own, *(_modules(package) if names is None else names)})

    return get, listed


def _modules(package: str) -> list[str]:
    """Subpackages and modules of a package, without those that start with an underscore."""
    import pkgutil

    modules = pkgutil.iter_modules(sys.modules[package].__path__)
    return [module.name for module in modules if not module.name.startswith("_")]


@lru_cache(maxsize=1)
def check_packages() -> None:
    """Makes sure that the toolkit's packages are the ones Python imports.

    Raises:
        UserError: Naming the first that is another one, and where it lies.
    """
    here = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        try:
            spec = find_spec(name)
        except ValueError:  # it is being imported, without a specification
            continue
        origin = (
            None
            if spec is None
            else spec.origin or next(iter(spec.submodule_search_locations or ()), None)
        )
        if origin is None:
            raise UserError(f"the package {name} of rome-diagnosis is missing: install it again")
        if not Path(origin).resolve().is_relative_to(here / name):
            raise UserError(
                f"Python imports another {name} than rome-diagnosis's: {origin}. Rename it, take "
                "it off the path, or run from another directory"
            )
