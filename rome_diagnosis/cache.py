"""Results that take long to compute, kept between runs with what they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rome_diagnosis import envelope
from rome_diagnosis.disk import files
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


def read(kind: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an earlier run kept under the same settings.

    Args:
        kind: What is kept, e.g. ``prefixes``.
        settings: Everything it depends on, as JSON values.

    Returns:
        What :func:`write` was given; ``None`` if there is nothing, or not this. Its content is
        as trustworthy as any file: check it before use.
    """
    try:
        kept = json.loads(_file(kind, settings).read_text(encoding="utf-8"))
        known = kept["schema"] == f"{kind}/1" and kept["settings"] == dict(settings)
    except (OSError, UserError, ValueError, TypeError, KeyError):
        return None
    return kept if known else None


def write(kind: str, settings: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Keeps a result with its settings and the versions that computed it, where that can be done.

    Args:
        kind: As for :func:`read`.
        settings: As for :func:`read`.
        content: The result, as JSON values.
    """
    document = {**envelope.head(f"{kind}/1", None), "settings": dict(settings), **content}
    try:
        path = _file(kind, settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, envelope.dumps(document))
    except (OSError, UserError):
        return  # a cache that cannot be written only costs the time of doing it again


def _file(kind: str, settings: Mapping[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(dict(settings)).encode()).hexdigest()
    return folder(kind) / f"{settings['fingerprint']}-{kind}-{digest[:16]}.json"
