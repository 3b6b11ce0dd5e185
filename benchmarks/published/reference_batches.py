"""Runs the published MEMIT, EMMET, PMET, AlphaEdit and ENCORE (checkouts, unmodified) beside ours.

The shim of :mod:`benchmarks.published.reference`, and three things more. The codes take a block's
output for a tuple, as it was in transformers 4: blocks are wrapped so that the module their
templates name gives one. Statistics are handed over in float64 instead of being downloaded and
rounded to float32, in which the bundled model's C, with a condition number of 4.6e12, would not be
positive definite. And every checkout has packages called ``rome`` and ``util``: each is imported
as if it were alone.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch

from benchmarks.published.reference import _Tokenizer, _Torch
from benchmarks.sides import timed
from probes.request.request import Request
from probes.target_value.method_file import PUBLISHED_NAMES, MethodFile


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
        wall: Seconds that all of it took by the clock.
        processor: Seconds that the process itself had.
    """

    targets: torch.Tensor
    keys: Mapping[int, torch.Tensor]
    changes: Mapping[int, torch.Tensor]
    wall: float
    processor: float


class MemitReference:
    """The published MEMIT on one GPT-2."""

    package: ClassVar[str] = "memit"
    source: ClassVar[str] = "kmeng01/memit"
    within: ClassVar[str] = ""  # the folder of the repository that its packages lie in
    home: ClassVar[str] = ""  # the package that ``rome`` and its own lie in
    outer: ClassVar[str] = ""  # the one that ``util`` lies in
    optimiser: ClassVar[str] = "compute_z"

    def __init__(
        self,
        checkout: Path,
        model: Any,
        tokenizer: Any,
        chosen: MethodFile,
        moments: Mapping[int, torch.Tensor],
    ) -> None:
        """Loads the checkout's modules.

        Args:
            checkout: The repository's root.
            model: A plain Hugging Face GPT-2; its blocks are wrapped.
            tokenizer: Its tokenizer.
            chosen: The method with its layers, parameters and target's hyper-parameters.
            moments: C of each layer.
        """
        self.main = self._load(checkout / self.within)
        device = next(model.parameters()).device
        for i, block in enumerate(model.transformer.h):
            model.transformer.h[i] = _Wrapped(block)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.model, self.tokenizer = model, _Tokenizer(tokenizer, device)
        compute_z = sys.modules[getattr(self.main, self.optimiser).__module__]
        compute_z.torch = self.main.torch = _Torch(device)  # type: ignore[attr-defined]
        self.hparams = _hparams(chosen, model)
        self._hand_in(lambda name: moments[layer_of(name)].clone())

    def batch(self, requests: Sequence[Request], prefixes: Sequence[str]) -> Published:
        """Runs the published code on a batch, and keeps what it computes on the way.

        Args:
            requests: The edits.
            prefixes: Contexts 1…n, each ending in white space.

        Returns:
            What it made.
        """
        main, optimiser = self.main, getattr(self.main, self.optimiser)
        main.CONTEXT_TEMPLATES_CACHE = [["{}"], [f"{prefix}{{}}" for prefix in prefixes]]
        targets: list[torch.Tensor] = []
        keys: dict[int, torch.Tensor] = {}

        def kept_z(compute_z: Callable[..., Any], *arguments: Any) -> Any:
            result = compute_z(*arguments)
            targets.append(self._target(result).detach())
            return result

        def first_keys(compute_ks: Callable[..., Any], *arguments: Any) -> Any:
            result = compute_ks(*arguments)
            layer, own = self._keys(result, arguments)
            keys.setdefault(layer, own.detach().clone())  # AlphaEdit measures them twice
            return result

        with (
            mock.patch.object(main, self.optimiser, _around(optimiser, kept_z)),
            mock.patch.object(main, "compute_ks", _around(main.compute_ks, first_keys)),
            mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            changes, wall, processor = timed(
                lambda: self._edit([self._record(r) for r in requests])
            )
        return Published(torch.stack(targets), keys, changes, wall, processor)

    def _load(self, checkout: Path) -> Any:
        """Its main module, without the modules that read files and download."""
        rome, util = f"{self.home}rome", f"{self.outer}util"
        own = f"{self.home}{self.package}"
        if not checkout.joinpath(*own.split("."), f"{self.package}_main.py").is_file():
            sys.exit(
                f"{checkout} holds no {self.package}_main.py: give a checkout of {self.source}"
            )
        packages = {
            ".".join(parts[: i + 1])
            for parts in (name.split(".") for name in (rome, util, own))
            for i in range(len(parts))
        }
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]
        for name in packages:  # their own __init__ import data sets and network code
            module = types.ModuleType(name)
            module.__path__ = [str(checkout.joinpath(*name.split(".")))]
            sys.modules[name] = module
        paths = types.ModuleType(f"{util}.globals")
        paths.STATS_DIR = Path("nowhere")  # type: ignore[attr-defined]
        stats = types.ModuleType(f"{rome}.layer_stats")
        stats.layer_stats = stats.layer_stats_dynamic = None  # type: ignore[attr-defined]
        sys.modules[paths.__name__] = paths
        sys.modules |= dict.fromkeys((stats.__name__, f"{rome}.layer_stats_dynamic"), stats)
        return importlib.import_module(f"{own}.{self.package}_main")

    def _hand_in(self, moment: Callable[[str], torch.Tensor]) -> None:
        """Gives the code C of a layer, by its weight's name, where it would download it."""
        self.main.get_cov = lambda model, tok, name, *_, **__: self._statistics(moment(name))

    def _record(self, request: Request) -> dict[str, Any]:
        """An edit as the code takes it."""
        return {
            "case_id": 0,
            "subject": request.subject,
            "prompt": request.prompt,
            "target_new": {"str": str(request.target_new)},
        }

    def _target(self, result: Any) -> torch.Tensor:
        """z, of what its optimisation returns."""
        target: torch.Tensor = result
        return target

    def _keys(self, result: Any, arguments: Sequence[Any]) -> tuple[int, torch.Tensor]:
        """The layer and its keys, of what ``compute_ks`` returns and takes."""
        return arguments[4], result

    def _statistics(self, moment: torch.Tensor) -> Any:
        """What the code's ``get_cov`` returns."""
        return moment

    def _edit(self, records: list[dict[str, Any]]) -> dict[int, torch.Tensor]:
        """ΔW of each layer; the code takes its edits back when it has made them."""
        execute = getattr(self.main, f"execute_{self.package}")
        result = execute(self.model, self.tokenizer, records, self.hparams)
        deltas = result[0] if isinstance(result, tuple) else result  # ENCORE's also returns times
        return {
            layer_of(name): adjusted.double() @ residual.double().T
            for name, (adjusted, residual, *_) in deltas.items()
        }

    def _weight(self, layer: int) -> torch.nn.Parameter:
        """What is edited in a block."""
        name = self.hparams.rewrite_module_tmp.format(layer)
        weight: torch.nn.Parameter = self.model.get_parameter(f"{name}.weight")
        return weight


class EmmetReference(MemitReference):
    """The published EMMET."""

    package = "emmet"
    source = "scalable-model-editing/unified-model-editing"

    def _statistics(self, moment: torch.Tensor) -> Any:
        return moment, None  # and the keys that its objective is reported over


class EncoreReference(EmmetReference):
    """The published ENCORE, batch after batch: it remembers keys, and its edits stay."""

    package = "encore"
    source = "scalable-model-editing/knowledge-editing-regularization"

    def _target(self, result: Any) -> torch.Tensor:
        target: torch.Tensor = result[0]  # and lengths
        return target

    def _edit(self, records: list[dict[str, Any]]) -> dict[int, torch.Tensor]:
        changes = super()._edit(records)
        for layer, change in changes.items():
            self._weight(layer).data += change
        return changes


class PmetReference(MemitReference):
    """The published PMET: of its two targets the MLP's is written."""

    package = "pmet"
    source = "xpq-tech/PMET"
    within = "edit"
    optimiser = "compute_zs"

    def _target(self, result: Any) -> torch.Tensor:
        _, target = result
        return target  # type: ignore[no-any-return]

    def _keys(self, result: Any, arguments: Sequence[Any]) -> tuple[int, torch.Tensor]:
        return arguments[5], result[arguments[4]]

    def _edit(self, records: list[dict[str, Any]]) -> dict[int, torch.Tensor]:
        to = torch.Tensor.to  # it names its GPUs by number

        def here(tensor: torch.Tensor, *where: Any, **options: Any) -> torch.Tensor:
            on_gpu = str(where[:1]).startswith("('cuda:")
            return tensor if on_gpu else to(tensor, *where, **options)

        with mock.patch.object(torch.Tensor, "to", here):
            changes = self.main.execute_pmet(self.model, self.tokenizer, records, self.hparams)
        return {layer_of(name): change.detach().double() for name, change in changes.items()}


class AlphaEditReference(MemitReference):
    """The published AlphaEdit, batch after batch: its edits stay, and it remembers their keys."""

    package = "AlphaEdit"
    source = "jianghoucheng/AlphaEdit"

    def __init__(self, checkout: Path, *arguments: Any) -> None:
        """Loads the checkout's modules, and computes the projectors by its code; see the base."""
        super().__init__(checkout, *arguments)
        # Its script cannot be imported without data sets and a GPU: the one function is taken.
        script = ast.parse((checkout / "experiments" / "evaluate.py").read_text(encoding="utf-8"))
        (function,) = (x for x in script.body if getattr(x, "name", None) == "get_project")
        names: dict[str, Any] = {"torch": torch, "get_cov": self.main.get_cov}
        exec(compile(ast.Module([function], []), "evaluate.py", "exec"), names)
        with contextlib.redirect_stdout(io.StringIO()):
            self.projectors = torch.stack(
                [
                    names["get_project"](self.model, self.tokenizer, layer, self.hparams)
                    for layer in self.hparams.layers
                ]
            )
        self.remembered = torch.zeros_like(self.projectors)

    def _edit(self, records: list[dict[str, Any]]) -> dict[int, torch.Tensor]:
        unedited = {layer: self._weight(layer).detach().clone() for layer in self.hparams.layers}
        _, self.remembered = self.main.apply_AlphaEdit_to_model(
            self.model, self.tokenizer, records, self.hparams,
            cache_c=self.remembered, P=self.projectors,
        )  # fmt: skip
        return {layer: self._weight(layer).detach() - old for layer, old in unedited.items()}


def _around(function: Callable[..., Any], outer: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: outer(function, *arguments)


def layer_of(name: str) -> int:
    """The block that a weight's name belongs to."""
    return int(name.split(".")[2])


def _hparams(chosen: MethodFile, model: Any) -> types.SimpleNamespace:
    """The hyper-parameters under the names the codes read, with the wrapped blocks' names."""
    target = chosen.target
    last = model.config.n_layer - 1
    return types.SimpleNamespace(
        **{name: chosen.parameters.get(ours, 0.0) for name, ours in PUBLISHED_NAMES.items()},
        layers=list(chosen.layers),
        fact_token="subject_last",
        v_num_grad_steps=target.evaluations,
        v_lr=target.learning_rate,
        v_loss_layer=last,
        v_weight_decay=target.weight_decay,
        clamp_norm_factor=target.clamp_norm_factor,
        kl_factor=target.kl_factor,
        mom2_dataset="",
        mom2_n_samples=0,
        mom2_dtype="float64",
        calculate_objective_value=False,
        prob_cutoff=-target.most_probable,
        use_gd=False,
        sequential=True,
        add_prev_edits=True,
        nll_loss_factor=target.nll_factor,
        rewrite_module_tmp="transformer.h.{}.inner.block.mlp.c_proj",
        rewrite_module_tmps=["transformer.h.{}.inner.block.mlp.c_proj"],
        attn_module_tmp="transformer.h.{}.inner.block.attn.c_proj",
        layer_module_tmp="transformer.h.{}.inner",
        mlp_module_tmp="transformer.h.{}.inner.block.mlp",
        ln_f_module="transformer.ln_f",
        lm_head_module="lm_head",
    )
