"""Names of a package that are imported when they are first used (PEP 562).

Importing a package then costs nothing, and ``dir()`` still lists what it offers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from rome_diagnosis import neighbours


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
        neighbours.check()
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
