"""beartype checks every jaxtyped signature of ``probes`` and ``diag`` while the tests run.

Imported before anything that is tested: it installs jaxtyping's import hook, which wraps every
function. Those whose annotations name no shape are left as they are, and of the others only the
annotations that name one are checked: mypy checks the rest, what is imported for mypy alone is
missing here, and a wrapper around every call would slow the tests by half.
"""

from __future__ import annotations

import re
from typing import Any

import jaxtyping
from beartype import beartype

_SHAPED = re.compile(r"\b(?:Float|Int|Integer|Bool|Num|Shaped|Inexact|Complex)\d*\[")
_jaxtyped = jaxtyping.jaxtyped


def check(function: Any) -> Any:
    """A function whose annotated shapes are checked, as jaxtyping asks for it."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if _is_shape(hint)}
    return beartype(function) if function.__annotations__ else function


def _where_shaped(*function: Any, typechecker: Any = None) -> Any:
    """jaxtyping's decorator, for functions and dataclasses that name a shape."""
    if function:
        return _jaxtyped(*function, typechecker=typechecker)

    def decorate(thing: Any) -> Any:
        hints = getattr(thing, "__annotations__", {}).values()
        return _jaxtyped(thing, typechecker=typechecker) if any(map(_is_shape, hints)) else thing

    return decorate


def _is_shape(hint: Any) -> bool:
    return bool(_SHAPED.search(hint if isinstance(hint, str) else repr(hint)))


jaxtyping.jaxtyped = _where_shaped
jaxtyping.install_import_hook(("probes", "diag"), "tests.shapes.check")
