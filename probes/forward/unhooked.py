"""The general engine: the Hugging Face model without hook points, on the bridge's own weights.

The bridge's hook points cost some fifteen milliseconds a call, which is most of the time of a
small pass. So whatever runs often (optimising, generating, scoring, screening, passing over a
corpus) runs on a model without hook points that shares every weight with the bridge: an edit made
through the bridge is an edit of this model too. It also keeps the keys and values of earlier
tokens, which the bridge does not.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers.cache_utils import DynamicCache

from probes.forward.batches import (
    Place,
    Reader,
    TokenBatch,
    TokenIds,
    batches_on,
    by_length,
    padded,
)
from probes.forward.decoder import CachedDecoder
from probes.model import architecture
from probes.model.bridge import hook_left_on
from probes.model.exact_gelu import replace_gelus
from probes.model.loaded import LoadedModel, Site
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from probes.forward.engine import AfterPrefixes, Decoder

_PLAIN: WeakKeyDictionary[Any, Plain | UserError] = WeakKeyDictionary()


@dataclass(frozen=True)
class Plain:
    """A Hugging Face model without hook points.

    Attributes:
        model: The causal language model, in evaluation mode, its parameters frozen.
        blocks: Dotted name of its list of blocks, e.g. ``transformer.h``.
        projection: Dotted name, within a block, of the MLP's output projection.
        attention: The same of the attention's; empty where there is none.
    """

    model: Any
    blocks: str
    projection: str
    attention: str = ""

    def block(self, layer: int) -> nn.Module:
        """Block ``layer``."""
        return self.model.get_submodule(f"{self.blocks}.{layer}")

    def output_projection(self, layer: int) -> nn.Module:
        """The module whose input is the key and whose output is the MLP's."""
        return self.block(layer).get_submodule(self.projection)

    def attention_projection(self, layer: int) -> nn.Module:
        """The module whose output is the attention's, before any norm.

        Raises:
            UserError: If the block has none.
        """
        modules = dict(self.block(layer).named_modules())
        if not self.attention or self.attention not in modules:
            raise UserError(
                f"block {layer} of {type(self.model).__name__} has no output projection of an "
                "attention, whose output is to be changed: use another method, or another layer"
            )
        return modules[self.attention]

    def mlp(self, layer: int) -> nn.Module | None:
        """The module that computes keys; ``None`` where the block itself does."""
        name = self.projection.rpartition(".")[0]
        return self.block(layer).get_submodule(name) if name else None

    def weight_name(self, layer: int) -> str:
        """Name of the edited weight in the model's state dictionary."""
        return f"{self.blocks}.{layer}.{self.projection}.weight"


class Unhooked:
    """See :class:`probes.forward.engine.Engine`."""

    def __init__(self, model: LoadedModel) -> None:
        """Prepares the model without hook points; no weight is copied.

        Args:
            model: The model.

        Raises:
            UserError: As :func:`plain`.
        """
        self.model, self.plain = model, plain(model)

    def read(self, batch: TokenBatch, readers: Mapping[Place, Reader]) -> None:
        """See :meth:`probes.forward.engine.Engine.read`."""
        with reading(self.plain, batch.ids, readers):
            # The padding follows the texts, whose own tokens never see it: no mask is needed.
            self.plain.model.base_model(batch.ids, use_cache=False)

    def after(self, prefixes: Sequence[TokenIds], layers: Sequence[int]) -> AfterPrefixes:
        """See :meth:`probes.forward.engine.Engine.after`."""
        return _CachedPrefixes(self.plain, prefixes, layers, self.model.device)

    def decode(self, rows: Sequence[Sequence[int]]) -> Decoder:
        """See :meth:`probes.forward.engine.Engine.decode`."""
        return CachedDecoder(self.plain.model, rows, self.model.device)


class _CachedPrefixes:
    """Prefixes that are run once; their keys and values are kept, those of one length together."""

    def __init__(
        self,
        unhooked: Plain,
        prefixes: Sequence[TokenIds],
        layers: Sequence[int],
        device: torch.device,
    ) -> None:
        self.plain, self.layers, self._device = unhooked, layers, device
        self._caches: dict[int, DynamicCache | None] = {}
        self._at: dict[int, tuple[int, int]] = {}
        for length, indices in by_length(prefixes).items():
            self._at |= {i: (length, row) for row, i in enumerate(indices)}
            self._caches[length] = self._run([prefixes[i] for i in indices]) if length else None

    @torch.no_grad()
    def _run(self, prefixes: Sequence[TokenIds]) -> DynamicCache:
        """Runs prefixes of one length up to the last block whose keys are read."""
        ids, _ = padded(prefixes, self._device)
        cache = DynamicCache(config=self.plain.model.config)
        with reading(self.plain, ids, {(self.layers[-1], "resid_post"): lambda _: None}):
            self.plain.model.base_model(ids, past_key_values=cache, use_cache=True)
        return cache

    def lay(self, texts: Sequence[TokenIds], most: int) -> Iterator[PaddedRows]:
        """See :meth:`probes.forward.engine.AfterPrefixes.lay`."""
        for batch in batches_on(self._device, texts, batch_tokens=most):
            yield PaddedRows(self, batch)

    def copies(self, prefixes: Sequence[int], rows: int) -> DynamicCache | None:
        """Keys and values of some prefixes of one length, each as often as there are rows."""
        length = self._at[prefixes[0]][0]
        cache = copy.deepcopy(self._caches[length])
        if cache is not None:
            at = torch.tensor([self._at[i][1] for i in prefixes], device=self._device)
            cache.batch_select_indices(at.repeat_interleave(rows))
        return cache


@dataclass(frozen=True)
class PaddedRows:
    """Texts as padded rows, repeated for every prefix; see :class:`probes.forward.engine.Laid`."""

    prefixes: _CachedPrefixes
    batch: TokenBatch

    @property
    def rows(self) -> list[int]:
        """Index of each text among the texts given."""
        return self.batch.rows

    @property
    def tokens(self) -> int:
        """How many tokens are run for each prefix."""
        return self.batch.ids.numel()

    @torch.no_grad()
    def keys(self, prefixes: Sequence[int]) -> list[Float[Tensor, "prefix row d_mlp"]]:
        """See :meth:`probes.forward.engine.Laid.keys`."""
        unhooked, (*below, layer) = self.prefixes.plain, self.prefixes.layers
        ids, count = self.batch.ids.repeat(len(prefixes), 1), len(self.rows)
        every = torch.arange(len(ids), device=ids.device)
        last = self.batch.last.repeat(len(prefixes))
        cache = self.prefixes.copies(prefixes, count)
        read: list[Tensor] = []

        def keep(keys: Tensor) -> None:
            read.append(keys[every, last])

        with contextlib.ExitStack() as stack:
            mlp = unhooked.mlp(layer)
            if mlp is not None:  # it need not compute the other tokens' keys

                def only_last(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                    return (arguments[0][every, last, None], *arguments[1:])

                stack.callback(mlp.register_forward_pre_hook(only_last).remove)
            on_the_way: dict[Place, Reader] = {(lower, "key"): keep for lower in below}
            stack.enter_context(reading(unhooked, ids, on_the_way, stop=False))
            shape, take = (
                (ids, keep) if mlp is None else (ids[:, :1], lambda k: read.append(k[:, 0]))
            )
            stack.enter_context(reading(unhooked, shape, {(layer, "key"): take}))
            unhooked.model.base_model(ids, past_key_values=cache, use_cache=cache is not None)
        return [keys.unflatten(0, (len(prefixes), count)) for keys in read]


class _Reached(Exception):
    """Raised in a hook once everything is read: nothing after it is run."""


# In the order in which a block computes them.
_ORDER: tuple[Site, ...] = ("resid_pre", "attention", "key", "value", "before_norm", "resid_post")


@contextlib.contextmanager
def reading(
    unhooked: Plain,
    ids: Int[Tensor, "row position"],
    readers: Mapping[Place, Reader],
    *,
    stop: bool = True,
) -> Iterator[None]:
    """Hooks readers up for one run, which ends when the last of them has been called."""
    places = sorted(readers, key=lambda place: (place[0], _ORDER.index(place[1])))
    last = places[-1] if stop else None

    def hand_over(place: Place, activation: Tensor) -> None:
        readers[place](architecture.in_rows(activation, ids))
        if place == last:
            raise _Reached

    def before(place: Place) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            hand_over(place, arguments[0] if arguments else named["hidden_states"])

        return hook

    def after(place: Place) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, result: Any) -> None:
            hand_over(place, result[0] if isinstance(result, tuple) else result)

        return hook

    handles: list[RemovableHandle] = []
    try:
        for place in readers:
            module = _module(unhooked, place)
            if place[1] in ("attention", "value", "resid_post"):
                handles.append(module.register_forward_hook(after(place)))
            else:
                handles.append(module.register_forward_pre_hook(before(place), with_kwargs=True))
        yield
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _module(unhooked: Plain, place: Place) -> nn.Module:
    """The module whose input or output a site is."""
    layer, site = place
    if site in ("key", "value"):
        return unhooked.output_projection(layer)
    if site == "attention":
        return unhooked.attention_projection(layer)
    if site == "before_norm":
        norm = architecture.layout(unhooked.model.config).norm
        assert norm is not None, "only read where the layout has one"
        return unhooked.block(layer).get_submodule(norm)
    return unhooked.block(layer)


def plain(model: LoadedModel) -> Plain:
    """The model without hook points, built once for each bridge without copying a weight.

    Args:
        model: The loaded model.

    Returns:
        The plain model. Weights changed in place through the bridge change it too.

    Raises:
        UserError: If the weights cannot be matched with a plain model's, or hooks are left on the
            bridge, which the plain model would not run.
    """
    hooked = hook_left_on(model.bridge)
    if hooked is not None:
        raise UserError(
            f"a hook is left on {hooked} of {model.name}: take it off with "
            "bridge.reset_hooks(including_permanent=True), or edit its weights instead"
        )
    if model.bridge not in _PLAIN:
        try:
            _PLAIN[model.bridge] = _build(model)
        except UserError as error:
            # Without its traceback, which would hold the bridge for good.
            _PLAIN[model.bridge] = UserError(str(error))
    known = _PLAIN[model.bridge]
    if isinstance(known, UserError):
        raise UserError(str(known))
    return known


def _build(model: LoadedModel) -> Plain:
    from transformers import AutoModelForCausalLM

    wrapped = model.bridge.original_model
    config = copy.deepcopy(wrapped.config)
    # The bridge asks for eager attention, which it can hook; the class's own choice is faster. Only
    # a soft cap on the scores needs them one by one.
    config._attn_implementation = "eager" if architecture.score_soft_cap(config) else None
    if model.is_spread:
        raise UserError(
            f"{model.name} is spread by device_map: its keys can be read, but whatever edits it or "
            'measures edited models needs it on one device, e.g. device_map={"": "cpu"}'
        )
    state = {_own_name(key): value for key, value in model.state_dict.items()}
    try:
        with torch.device("meta"):
            bare = AutoModelForCausalLM.from_config(config)
        bare.load_state_dict(state, strict=False, assign=True)
        bare.tie_weights()
    except (RuntimeError, ValueError, TypeError) as error:  # quantised weights, for one
        raise UserError(
            f"the weights of {model.name} do not fit its Hugging Face class: "
            f"{' '.join(str(error).split())}"
        ) from error
    # Rotary frequencies and the like are computed at construction and stored nowhere.
    buffers = {_own_name(key): value for key, value in wrapped.named_buffers()}
    for name, value in list(bare.named_buffers()):
        if value.is_meta and name in buffers:
            owner, _, leaf = name.rpartition(".")
            setattr(bare.get_submodule(owner), leaf, buffers[name])
    missing = [
        name for name, value in [*bare.named_parameters(), *bare.named_buffers()] if value.is_meta
    ]
    if missing:
        raise UserError(
            f"the weights of {model.name} do not fit its Hugging Face class "
            f"({missing[0]} is missing): load it with probes.model.load.load"
        )
    replace_gelus(bare)
    bare.eval().requires_grad_(False)
    edited = architecture.output_weight(model.bridge, 0).data_ptr()
    names = [name for name, value in bare.named_parameters() if value.data_ptr() == edited]
    blocks, marker, rest = names[0].partition(".0.") if names else ("", "", "")
    if not marker:
        raise UserError(
            f"the MLP output projection of {model.name} is not one matrix of its blocks, "
            "so it cannot be edited"
        )
    attention = architecture.attention_weight(model.bridge, 0)
    pointer = None if attention is None else attention.data_ptr()
    own = dict(bare.get_submodule(f"{blocks}.0").named_parameters())
    output = next((name for name, value in own.items() if value.data_ptr() == pointer), "")
    return Plain(bare, blocks, rest.removesuffix(".weight"), output.removesuffix(".weight"))


def _own_name(name: str) -> str:
    """A parameter's name in the Hugging Face model, the bridge's wrappers taken out."""
    return name.replace("_original_component.", "")
