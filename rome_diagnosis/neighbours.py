"""Notices another ``diag``, ``probes`` or ``reports`` where this toolkit's is expected.

The names are common: a script or folder called so, earlier on Python's path, would be imported
instead, and what then fails says nothing about the reason.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from rome_diagnosis.errors import UserError

PACKAGES = ("diag", "probes", "reports")


@lru_cache(maxsize=1)
def check() -> None:
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
