"""Runs the published MEMIT (a checkout of kmeng01/memit, unmodified) beside ours.

The shim of :mod:`benchmarks.reference`, and two things more. The code takes a block's output for a
tuple, as it was in transformers 4: blocks are wrapped so that the module its template names gives
one. And statistics are handed over in float64 instead of being downloaded and rounded to float32,
in which the bundled model's C, with a condition number of 4.6e12, would not be positive definite.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import time
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.reference import _Tokenizer, _Torch
from probes.request.request import Request
from probes.target_value.method_file import MethodFile


class _Tupled(torch.nn.Module):
    """A block whose output is a tuple."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *arguments: Any, **named: Any) -> tuple[Any]:
        return (self.block(*arguments, **named),)


class _Wrapped(torch.nn.Module):
    """What the model calls in a block's place: the tuple's only element."""

    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.inner = _Tupled(block)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self.inner(*arguments, **named)[0]


@dataclass(frozen=True)
class Published:
    """What the published code made of a batch.

    Attributes:
        targets: z of each edit, ``[m, d_model]``.
        keys: Keys of each layer, ``[m, d_mlp]``.
        changes: ΔW of each layer, ``[d_mlp, d_model]`` float64.
        seconds: Wall time of all of it.
        seconds_targets: Of which the optimisation of z.
    """

    targets: torch.Tensor
    keys: Mapping[int, torch.Tensor]
    changes: Mapping[int, torch.Tensor]
    seconds: float
    seconds_targets: float


class MemitReference:
    """The published MEMIT on one GPT-2."""

    def __init__(self, checkout: Path, model: Any, tokenizer: Any) -> None:
        """Loads the checkout's modules.

        Args:
            checkout: The repository's root.
            model: A plain Hugging Face GPT-2; its blocks are wrapped.
            tokenizer: Its tokenizer.
        """
        self.main = _modules(checkout)
        device = next(model.parameters()).device
        for i, block in enumerate(model.transformer.h):
            model.transformer.h[i] = _Wrapped(block)
        self.model = model
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = _Tokenizer(tokenizer, device)
        self.compute_z = importlib.import_module("memit.compute_z")
        self.compute_z.torch = _Torch(device)  # type: ignore[attr-defined]

    def batch(
        self,
        requests: Sequence[Request],
        prefixes: Sequence[str],
        chosen: MethodFile,
        moments: Mapping[int, torch.Tensor],
    ) -> Published:
        """Runs ``execute_memit``, and keeps what it computes on the way.

        Args:
            requests: The edits.
            prefixes: Contexts 1…n, each ending in white space.
            chosen: MEMIT with its layers, λ and target's hyper-parameters.
            moments: C of each layer.

        Returns:
            What it made.
        """
        main = self.main
        main.CONTEXT_TEMPLATES_CACHE = [["{}"], [f"{prefix}{{}}" for prefix in prefixes]]
        main.get_cov = lambda model, tok, name, *_, **__: moments[int(name.split(".")[2])]
        targets: list[torch.Tensor] = []
        keys: dict[int, torch.Tensor] = {}
        spent = [0.0]
        own_z, own_keys = self.compute_z.compute_z, main.compute_ks

        def timed_z(*arguments: Any) -> torch.Tensor:
            began = time.perf_counter()
            targets.append(own_z(*arguments).detach())
            spent[0] += time.perf_counter() - began
            return targets[-1]

        def kept_keys(*arguments: Any) -> torch.Tensor:
            found: torch.Tensor = own_keys(*arguments)
            keys[arguments[4]] = found.detach().clone()
            return found

        main.compute_z, main.compute_ks = timed_z, kept_keys
        try:
            began = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                deltas = main.execute_memit(
                    self.model,
                    self.tokenizer,
                    [_record(r) for r in requests],
                    _hparams(chosen, self.model),
                )
            seconds = time.perf_counter() - began
        finally:
            main.compute_z, main.compute_ks = own_z, own_keys
        changes = {
            int(name.split(".")[2]): adjusted.double() @ residual.double().T
            for name, (adjusted, residual) in deltas.items()
        }
        return Published(torch.stack(targets), keys, changes, seconds, spent[0])


def _modules(checkout: Path) -> Any:
    """The checkout's ``memit.memit_main``, without the modules that read files and download."""
    if not (checkout / "memit" / "memit_main.py").is_file():
        sys.exit(f"{checkout} holds no memit/memit_main.py: give a checkout of kmeng01/memit")
    sys.path.insert(0, str(checkout))
    for name in ("rome", "memit"):  # their own __init__ import data sets and network code
        package = types.ModuleType(name)
        package.__path__ = [str(checkout / name)]
        sys.modules[name] = package
    paths = types.ModuleType("util.globals")
    paths.STATS_DIR = Path("nowhere")  # type: ignore[attr-defined]
    stats = types.ModuleType("rome.layer_stats")
    stats.layer_stats = None  # type: ignore[attr-defined]
    sys.modules |= {"util.globals": paths, "rome.layer_stats": stats}
    return importlib.import_module("memit.memit_main")


def _record(request: Request) -> dict[str, Any]:
    return {
        "case_id": 0,
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": {"str": str(request.target_new)},
    }


def _hparams(chosen: MethodFile, model: Any) -> types.SimpleNamespace:
    """The hyper-parameters under the names the reference reads, with the wrapped blocks' names."""
    target = chosen.target
    last = model.config.n_layer - 1
    return types.SimpleNamespace(
        layers=list(chosen.layers),
        fact_token="subject_last",
        v_num_grad_steps=target.evaluations,
        v_lr=target.learning_rate,
        v_loss_layer=last,
        v_weight_decay=target.weight_decay,
        clamp_norm_factor=target.clamp_norm_factor,
        kl_factor=target.kl_factor,
        mom2_update_weight=chosen.parameters["weight"],
        mom2_dataset="",
        mom2_n_samples=0,
        mom2_dtype="float64",
        rewrite_module_tmp="transformer.h.{}.inner.block.mlp.c_proj",
        layer_module_tmp="transformer.h.{}.inner",
        mlp_module_tmp="transformer.h.{}.inner.block.mlp",
        ln_f_module="transformer.ln_f",
        lm_head_module="lm_head",
    )
