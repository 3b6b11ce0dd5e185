"""Runs the published implementation (a checkout of kmeng01/rome, unmodified) beside ours.

A shim maps the device it has written into its code to the model's, keeps its package's imports of
data sets out, and hands it contexts and second moment instead of sampling and downloading them.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import types
from pathlib import Path
from typing import Any

import torch


class _Torch:
    """``torch`` as the reference sees it: its "cuda" is wherever the model is."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(torch, name)
        if name not in ("tensor", "zeros", "eye"):
            return attribute

        def on_device(*arguments: Any, **options: Any) -> Any:
            if str(options.get("device")).startswith("cuda"):
                options["device"] = self._device
            return attribute(*arguments, **options)

        return on_device


class _Tokenizer:
    """A tokenizer whose encodings go to the model's device when sent to "cuda"."""

    def __init__(self, tokenizer: Any, device: torch.device) -> None:
        self._tokenizer, self._device = tokenizer, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        encoded = self._tokenizer(*arguments, **options)
        send, device = encoded.to, self._device
        encoded.to = lambda where: send(device if str(where).startswith("cuda") else where)
        return encoded


def published_modules(checkout: Path) -> None:
    """Makes a checkout's modules importable.

    Args:
        checkout: The repository's root.
    """
    if not (checkout / "rome" / "compute_v.py").is_file():
        sys.exit(f"{checkout} holds no rome/compute_v.py: give a checkout of kmeng01/rome")
    if "rome" not in sys.modules:
        sys.path.insert(0, str(checkout))
        package = types.ModuleType("rome")  # its own __init__ imports data sets and network code
        package.__path__ = [str(checkout / "rome")]
        sys.modules["rome"] = package


class Reference:
    """The published ROME on one model."""

    def __init__(self, checkout: Path, model: Any, tokenizer: Any) -> None:
        """Loads the checkout's modules.

        Args:
            checkout: The repository's root.
            model: A plain Hugging Face GPT-2.
            tokenizer: Its tokenizer.
        """
        published_modules(checkout)
        self.model = model
        device = next(model.parameters()).device
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = _Tokenizer(tokenizer, device)
        self.compute_v = importlib.import_module("rome.compute_v")
        self.compute_v.torch = _Torch(device)  # type: ignore[attr-defined]

    def target_value(
        self,
        request: dict[str, Any],
        contexts: list[str],
        layer: int,
        hyperparameters: dict[str, Any],
    ) -> tuple[torch.Tensor, int]:
        """Its v* and the number of steps it took.

        ``compute_v`` returns (v* − v_u) / (left vector · k_u); with that key as the left vector
        and the denominator it prints, v* − v_u comes back.
        """
        hparams = types.SimpleNamespace(**hyperparameters)
        ones = torch.ones(self.model.config.n_inner or 4 * self.model.config.n_embd)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            right = self.compute_v.compute_v(
                self.model, self.tokenizer, request, hparams, layer, ones, contexts
            )
        lines = out.getvalue().splitlines()
        factor = next(float(x.split()[-1]) for x in lines if x.startswith("Division Factor"))
        evaluations = sum(line.startswith("loss ") for line in lines)
        return right.detach() * factor, evaluations - 1
