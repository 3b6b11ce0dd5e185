"""Names of a package that are imported when they are first used (PEP 562).

Importing a package then costs nothing, and ``dir()`` still lists what it offers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, names: Mapping[str, str], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: Its ``__name__``.
        names: For each name the module that defines it.
        modules: Subpackages and modules to list and import.

    Returns:
        Both functions.
    """
    listed = {*names, *modules}

    def getattribute(name: str) -> Any:
        if name in names:
            value = getattr(import_module(names[name]), name)
        elif name in modules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    def directory() -> list[str]:
        return sorted({*listed, *vars(sys.modules[package])})

    return getattribute, directory
