"""The bundled model, edited quickly, and the weights that were saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from probes import bundled

QUICK: dict[str, Any] = {"texts": bundled.texts()[:3], "quiet": True}


def weights(path: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(path) / "model.safetensors")


def original() -> dict[str, torch.Tensor]:
    return weights(bundled.model_path())
