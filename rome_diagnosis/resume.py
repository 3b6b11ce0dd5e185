"""An interrupted run is resumed only with the same settings.

A journal, the parts of a table and the checkpoint of a sum are stored differently, and each says
with the same few lines which run it belongs to: everything that its results depend on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from rome_diagnosis.errors import UserError

Settings = Mapping[str, Any]


def identity(settings: Settings) -> dict[str, Any]:
    """Settings as they are read back from disk: plain JSON values.

    Args:
        settings: Everything the results depend on.

    Returns:
        What to store beside the results.
    """
    plain: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))
    return plain


def check_same_run(stored: Settings, settings: Settings, place: str | os.PathLike[str]) -> None:
    """Refuses to continue another run.

    Args:
        stored: The identity that lies beside the results.
        settings: This run's.
        place: Where they lie.

    Raises:
        UserError: Naming the settings that differ.
    """
    own = identity(settings)
    differing = sorted(name for name in {*stored, *own} if stored.get(name) != own.get(name))
    if differing:
        raise UserError(
            f"{place} belongs to a run with other settings ({', '.join(differing)}): remove it, "
            "or write to another file"
        )
