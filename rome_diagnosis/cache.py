"""Where results that take long to compute are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from rome_diagnosis.errors import UserError

VARIABLE = "ROME_DIAGNOSIS_CACHE"


def folder(kind: str) -> Path:
    """The folder that keeps one kind of result.

    Args:
        kind: What is kept, e.g. ``second-moments``.

    Returns:
        The folder that the environment names, for all kinds alike; otherwise one for each kind in
        the user's cache. It need not exist.

    Raises:
        UserError: If there is no home directory and no variable names a folder.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise UserError(f"there is no home directory: set {VARIABLE} to a folder") from error
    return home / "rome-diagnosis" / kind
