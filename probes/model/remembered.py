"""The model that was loaded last by its name.

A notebook that names the same model in every call loads it once. One only, because models are
large.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from probes import bundled
from probes.model.fingerprint import fingerprint
from probes.model.load import load
from probes.model.loaded import LoadedModel
from rome_diagnosis.defaults import DType

_last: dict[tuple[Any, ...], LoadedModel] = {}


def load_once(
    name: str, *, device: str, dtype: DType, bos: bool | None, trust_remote_code: bool
) -> LoadedModel:
    """Loads a model, or takes again the one that was loaded last.

    Args:
        name: As :func:`probes.model.load.load` takes it, or ``"bundled"``.
        device: As there, like all others.
        dtype: As there.
        bos: As there.
        trust_remote_code: As there.

    Returns:
        The model: the last one if it was loaded in the same way, its files are what they were, and
        so are its weights.

    Raises:
        UserError: If it cannot be loaded.
    """
    source = str(bundled.model_path()) if name == "bundled" else name
    key = (source, dtype, device, bos, trust_remote_code, *_state(source))
    model = _last.get(key)
    if model is None or fingerprint(model.state_dict) != model.fingerprint:
        forget()  # before the next one is loaded, so that memory holds one
        model = load(
            source, name=name, device=device, dtype=dtype, bos=bos,
            trust_remote_code=trust_remote_code,
        )  # fmt: skip
        _last[key] = model
    return model


def forget() -> None:
    """Frees the model."""
    _last.clear()


def _state(source: str | os.PathLike[str]) -> tuple[Any, ...]:
    """Sizes and times of a model directory's files; nothing for a hub name."""
    folder = Path(source)
    try:
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        stats = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return (math.nan,)  # equal to nothing: what cannot be examined is loaded again
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
