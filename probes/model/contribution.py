"""From a change of an MLP's output to the change of the residual stream: what an edit really adds.

In most architectures the two are the same. Granite multiplies the output, Gemma 2 and OLMo 2 put
a norm after it, OPT-350m puts one after the addition. Which it is stands in
:data:`probes.model.architecture.LAYOUTS`, and is measured here before anything rests on it: the
output of one short text is changed at random, and the stream must move as the layout says.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from probes.model import architecture
from probes.model.bridge import probe_tokens
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import CONTRIBUTION_APART

_MEASURED: WeakKeyDictionary[Any, dict[int, Contribution]] = WeakKeyDictionary()
# Sizes of the random changes, over the typical size of the output.
_PROBE_SIZES = (0.1, 1.0, 3.0)


@dataclass(frozen=True)
class Mover:
    """The stream's change at fixed tokens, in float64 on the CPU.

    Attributes:
        norm: The norm on the way; ``None`` where there is none.
        factor: What multiplies the output, or the norm's.
        norm_input: What enters the norm at each token of the unedited model.
    """

    norm: nn.Module | None
    factor: float
    norm_input: Float[Tensor, "n d_model"]

    @property
    def width(self) -> int:
        """Width of the stream."""
        return self.norm_input.shape[-1]

    def __call__(self, change: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """What the stream changes by, for a change of the MLP's output at each token."""
        return _moved(self.norm, self.factor, self.norm_input, change)


@dataclass(frozen=True)
class Contribution:
    """What a block does with its MLP's output k @ W + b.

    Attributes:
        factor: What multiplies the output, or the norm's, on its way into the stream.
        norm: The norm on that way; ``None`` where there is none.
        takes_stream: Whether the norm acts on the sum of stream and output.
        projection: The block's output projection, which maps keys to outputs.
        unknown: Why what the block does is not known; ``None`` where it is.
    """

    factor: float
    norm: nn.Module | None
    takes_stream: bool
    projection: nn.Module
    unknown: str | None = None

    @property
    def scale(self) -> float | None:
        """The stream's change is exactly this times the output's change.

        ``None`` where a norm stands in between, or where the way is not known.
        """
        return self.factor if self.norm is None and self.unknown is None else None

    def describe(self) -> str:
        """How the stream's change follows from the output's, in one phrase."""
        if self.unknown is not None:
            return self.unknown
        times = "" if self.factor == 1.0 else f" times {self.factor:g}"
        if self.norm is None:
            return f"added to the residual stream{times or ' as it is'}"
        if self.takes_stream:
            return f"added to the residual stream, and the sum normalised{times}"
        return f"normalised, then added to the residual stream{times}"

    def added(
        self, norm_input: Float[Tensor, "... d_model"], change: Float[Tensor, "*n d_model"]
    ) -> Float[Tensor, "*n d_model"]:
        """The stream's change in the model's own type; gradients pass through.

        Args:
            norm_input: What enters the norm in the unedited model; not read where there is none.
            change: Change of the MLP's output.

        Returns:
            What the residual stream after the block changes by.

        Raises:
            UserError: If that is not known.
        """
        if self.unknown is not None:
            raise UserError(self.unknown)
        return _moved(self.norm, self.factor, norm_input, change)

    @torch.no_grad()
    def stream_change(
        self,
        keys: Float[Tensor, "n d_mlp"],
        streams: Float[Tensor, "n d_model"] | None,
        change: Float[Tensor, "n d_model"],
    ) -> Float[Tensor, "n d_model"]:
        """The stream's change at sampled tokens, float64 on the CPU.

        Args:
            keys: Keys of the tokens.
            streams: What entered the norm at the same tokens; read only where
                :attr:`takes_stream`.
            change: Change of the MLP's output at each.

        Returns:
            What the residual stream after the block changes by.

        Raises:
            UserError: If that is not known, or streams are needed and missing.
        """
        if self.unknown is not None:
            raise UserError(self.unknown)
        change = change.to("cpu", torch.float64)
        if self.norm is None:
            return self.factor * change
        return self.mover(keys, streams)(change)

    @torch.no_grad()
    def mover(
        self, keys: Float[Tensor, "n d_mlp"], streams: Float[Tensor, "n d_model"] | None
    ) -> Mover:
        """:meth:`stream_change` at fixed tokens, prepared once for many changes.

        Args:
            keys: Keys of the tokens.
            streams: What entered the norm at the same tokens; read only where
                :attr:`takes_stream`.

        Returns:
            A function of changes; gradients pass through.

        Raises:
            UserError: If streams are needed and missing.
        """
        if self.takes_stream and streams is None:
            raise UserError(
                "the block normalises the sum of stream and MLP output, but this second moment "
                "keeps no streams beside its keys: estimate it again"
            )
        if streams is None or not self.takes_stream:
            like = next(weight for weight in self.projection.parameters())
            streams = self.projection(keys.to(like))
        norm = None if self.norm is None else copy.deepcopy(self.norm).to("cpu", torch.float64)
        return Mover(norm, self.factor, streams.to("cpu", torch.float64))


def contribution(model: LoadedModel, layer: int) -> Contribution:
    """How a block's MLP output reaches the residual stream, measured once for each block.

    Args:
        model: The model, unedited and without hooks.
        layer: The block.

    Returns:
        The contribution; with :attr:`Contribution.unknown` set where the stream does not move as
        the architecture's layout says.

    Raises:
        UserError: If the model has no such block.
    """
    model.check_layer(layer)
    measured = _MEASURED.setdefault(model.bridge, {})
    if layer not in measured:
        measured[layer] = _measure(model, layer)
    return measured[layer]


def _measure(model: LoadedModel, layer: int) -> Contribution:
    layout = architecture.layout(model.hf_config)
    block = model.bridge.blocks[layer].original_component
    factor = 1.0
    if layout.config_factor is not None:
        factor *= float(getattr(architecture.text_config(model.hf_config), layout.config_factor))
    if layout.block_factor is not None:
        factor *= float(getattr(block, layout.block_factor))
    claimed = Contribution(
        factor=factor,
        norm=None if layout.norm is None else _unwrapped(getattr(block, layout.norm)),
        takes_stream=layout.norm_takes_stream,
        projection=architecture.output_projection(model.bridge, layer),
    )
    apart = _apart(model, layer, claimed)
    if apart <= 1.0:
        return claimed
    kind = type(model.bridge.original_model).__name__
    return replace(
        claimed,
        unknown=(
            f"what {kind} does with its MLP's output before the residual stream is not known to "
            "this toolkit (probes.model.architecture.LAYOUTS)"
        ),
    )


@torch.no_grad()
def _apart(model: LoadedModel, layer: int, claimed: Contribution) -> float:
    """How far the stream's measured change is from the claimed one; 1 is what rounding explains."""
    seen: dict[str, Tensor] = {}
    noise = torch.Generator().manual_seed(layer)
    ids = probe_tokens(model.tokenizer, model.hf_config)
    rows = torch.tensor([ids], device=model.device).expand(1 + len(_PROBE_SIZES), -1)

    def keep(site: str) -> Callable[[Tensor, Any], None]:
        def hook(activation: Tensor, hook: Any) -> None:
            seen[site] = activation.detach().clone()

        return hook

    def push(activation: Tensor, hook: Any) -> Tensor:
        seen["value"] = activation.detach().clone()
        sizes = torch.tensor([0.0, *_PROBE_SIZES])[:, None, None]
        typical = float(activation[0].double().pow(2).mean().sqrt())
        drawn = sizes * typical * torch.randn(activation.shape, generator=noise)
        seen["change"] = drawn.to(activation)
        return activation + seen["change"]

    hooks: list[tuple[str, Callable[[Tensor, Any], Any]]] = [
        (model.hook(layer, "value"), push),
        (model.hook(layer, "resid_post"), keep("resid_post")),
    ]
    if claimed.takes_stream:
        hooks.append((model.hook(layer, "before_norm"), keep("before_norm")))
    model.bridge.run_with_hooks(
        rows,
        attention_mask=torch.ones_like(rows),
        fwd_hooks=hooks,
        stop_at_layer=layer + 1,
        return_type=None,
    )
    streams = seen["before_norm" if claimed.takes_stream else "value"][:1].expand_as(seen["value"])
    expected = claimed.added(streams, seen["change"]).double()
    after = seen["resid_post"].double()
    wrong = ((after - after[:1]) - expected)[1:].norm(dim=-1)
    eps = torch.finfo(seen["value"].dtype).eps
    allowed = CONTRIBUTION_APART.value * expected[1:].norm(dim=-1) + 16 * eps * after[1:].norm(
        dim=-1
    )
    return float((wrong / allowed.clamp(min=torch.finfo(torch.float64).tiny)).max())


def _moved(norm: nn.Module | None, factor: float, norm_input: Tensor, change: Tensor) -> Tensor:
    if norm is None:
        return change if factor == 1.0 else factor * change
    moved: Tensor = norm(norm_input + change) - norm(norm_input)
    return moved if factor == 1.0 else factor * moved


def _unwrapped(module: Any) -> nn.Module:
    """The Hugging Face module inside one of TransformerLens' wrappers."""
    inner = getattr(module, "original_component", None)
    return module if inner is None else inner
