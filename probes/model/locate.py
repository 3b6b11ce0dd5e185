"""Where a model comes from: a directory, the local cache, or the hub if it can be reached."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlparse

from probes.model.gguf import PACKAGED, directory, is_gguf
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError


def locate(name: str) -> tuple[str, bool]:
    """Finds out where to load a model from.

    Args:
        name: A directory, a GGUF file, a hub name or that of a packaged model.

    Returns:
        An absolute directory or the hub name, and whether only local files may be used.

    Raises:
        UserError: If the name is empty, no model lies there, or the hub cannot be reached.
    """
    if not name.strip():
        raise UserError("the model's name is empty: give a directory or a hub name")
    path = files.expanded(name)
    try:
        is_directory = path.is_dir()
    except (OSError, ValueError) as error:  # too long, or with a null character
        raise UserError(f"there is no model {name[:60]!r}: {error}") from error
    if is_directory:
        if not (path / "config.json").is_file():
            raise UserError(f"{name} is a directory without a config.json, so not a model")
        # TransformerLens takes a relative path for a hub alias.
        return str(path.resolve()), True
    if is_gguf(name if name in PACKAGED else str(path)):
        return str(directory(name if name in PACKAGED else str(path))), True
    if path.exists():
        raise UserError(
            f"{name} is a file; a model is a directory with a config.json, a .gguf file, or a name"
        )
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name:
        raise UserError(f"there is no model directory {name}")
    if _cached(name):
        return name, True
    if not _hub_reachable():
        raise UserError(
            f"model {name!r} is neither a directory here nor in the local cache, "
            "and the hub cannot be reached"
        )
    return name, False


def folder_of(source: str) -> Path:
    """The folder that holds a model's files.

    Args:
        source: What :func:`locate` gives, once the model is here.

    Returns:
        The directory, or the hub cache's copy of it.
    """
    from huggingface_hub import try_to_load_from_cache

    if os.path.isdir(source):
        return Path(source)
    config = try_to_load_from_cache(source, "config.json")
    return Path(config).parent if isinstance(config, str) else Path(source)


def _cached(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError as error:
        raise UserError(f"{name!r} is neither a directory nor a valid hub name") from error


def _hub_reachable() -> bool:
    """Whether the hub's host resolves: saves the half minute the client spends on retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(key) for key in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
