"""Running only the blocks above one, from a residual stream that was recorded or is given.

What changes a block's output leaves everything below it as it was: it is recorded once. Where only
positions from some token on are touched, the keys and values of the positions before it are
constant in every block above and are handed over as well.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from probes.forward.autocast import rounded
from probes.forward.batches import padded
from probes.forward.recording import Recording
from probes.forward.unhooked import Plain, plain
from probes.model import architecture
from probes.model.contribution import contribution
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError

# Logits that exist at once: 16 MB in float32. What is computed of them takes as much again, so
# fewer are handed out together.
LOGITS_AT_ONCE, LOGITS_TOGETHER = 2**22, 2**20


class BlocksAbove:
    """The part of a model above one block's MLP."""

    def __init__(self, model: LoadedModel, layer: int) -> None:
        """Prepares the model's upper part.

        Args:
            model: The loaded model.
            layer: The block.

        Raises:
            UserError: If there is no such block, or it is not known how its MLP's output reaches
                the residual stream.
        """
        model.check_layer(layer)
        self.model, self.layer = model, layer
        self.plain: Plain = plain(model)
        self.device = model.device
        self.contribution = contribution(model, layer)
        if self.contribution.unknown is not None:
            raise UserError(self.contribution.unknown)
        # A mask given in four dimensions replaces the model's own, sliding windows included.
        window = architecture.attention_window(self.plain.model.config)
        self.longest_text = min(model.n_ctx, window) if window else model.n_ctx
        self.vocabulary: int = self.plain.model.get_output_embeddings().weight.shape[0]
        self._upper, self._skipped, self._head = upper_part(self.plain, layer)
        self._given = self._skipped[-1]

    @torch.no_grad()
    def record(
        self, ids: Sequence[Sequence[int]], *, before: Int[Tensor, " row"] | None = None
    ) -> Recording:
        """Runs all of the unedited model once.

        Args:
            ids: Rows of token ids.
            before: Positions before which the blocks' keys and values are kept, if they are to be.

        Returns:
            The recording.
        """
        rows, mask = padded(ids, self.device)
        seen: dict[str, Tensor] = {}

        def on_block(_: nn.Module, __: Any, result: Any) -> None:
            for skipped in self._skipped:
                skipped.as_tuple = isinstance(result, tuple)
            seen["residual"] = _hidden(result)

        def on_projection(_: nn.Module, arguments: tuple[Tensor, ...], result: Tensor) -> None:
            seen["keys"] = architecture.in_rows(arguments[0], rows)
            # Copied: Falcon adds the attention's output to the same tensor.
            seen["output"] = architecture.in_rows(result, rows).clone()

        def on_norm(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            seen["norm_input"] = architecture.in_rows(arguments[0], rows)

        def on_head(_: nn.Module, arguments: tuple[Tensor, ...]) -> Tensor:
            seen["final"] = arguments[0]
            return arguments[0][:, :1]  # logits of all positions are not wanted here

        cache = None
        if before is not None:
            kept = Earlier.of(before, mask)
            above = range(self.layer + 1, self.model.n_layers)
            cache = _CacheOfEarlier(self.plain.model.config, above, kept)
        handles = [
            self.plain.block(self.layer).register_forward_hook(on_block),
            self.plain.output_projection(self.layer).register_forward_hook(on_projection),
            self.plain.model.get_output_embeddings().register_forward_pre_hook(on_head),
        ]
        if self.contribution.takes_stream:
            name = architecture.layout(self.plain.model.config).norm
            norm = self.plain.block(self.layer).get_submodule(str(name))
            handles.append(norm.register_forward_pre_hook(on_norm))
        try:
            with rounded(self.model):
                self.plain.model(
                    rows, attention_mask=mask, past_key_values=cache, use_cache=cache is not None
                )
        finally:
            for handle in handles:
                handle.remove()
        seen.setdefault("norm_input", seen["output"])
        if self.model.autocast is not None:  # what an edit changes is computed in float32
            seen = {name: value.float() for name, value in seen.items()}
        return Recording(rows, mask, past={} if cache is None else cache.past, **seen)

    def final(
        self,
        residual: Float[Tensor, "row position d_model"],
        ids: Int[Tensor, "row position"],
        mask: Tensor,
        at: tuple[Int[Tensor, " n"], Int[Tensor, " n"]],
        *,
        position_ids: Int[Tensor, "row position"] | None = None,
        past: dict[int, tuple[Tensor, Tensor]] | None = None,
    ) -> Float[Tensor, "n d_embedding"]:
        """Runs the blocks above from a given residual stream.

        Args:
            residual: The stream after the edited block.
            ids: Token ids of the same shape (nothing above the embedding reads them).
            mask: [row, position], or an additive [row, 1, position, key position].
            at: Rows and positions whose logits are wanted.
            position_ids: Positions in the text, where ``past`` comes before.
            past: Keys and values of earlier positions, for each block above.

        Returns:
            What enters the unembedding at those positions, in their order; :meth:`head` and
            :meth:`heads` make logits of it.
        """
        if mask.dim() == 4 and architecture.mask_in_rows(self.plain.model.config):
            mask = (mask[:, 0, -1] == 0).long()  # the last token sees every token that counts
        self._given.residual = residual
        self._head.at = at
        try:
            with rounded(self.model):
                self._upper(
                    ids,
                    attention_mask=mask,
                    position_ids=position_ids,
                    past_key_values=_Past(past) if past is not None else None,
                    use_cache=False,
                )
        finally:
            self._given.residual = None
            self._head.at = None
        return self._head.selected()

    def heads(
        self, final: Float[Tensor, "n d_embedding"]
    ) -> Iterator[tuple[slice, Float[Tensor, "some vocabulary"]]]:
        """:meth:`head` of some rows at a time: a vocabulary is wider than a model.

        Args:
            final: As :meth:`final` gives it.

        Yields:
            Which rows, and their logits.
        """
        at_once, together = (
            max(1, most // self.vocabulary) for most in (LOGITS_AT_ONCE, LOGITS_TOGETHER)
        )
        for first in range(0, len(final), at_once):
            logits = self.head(final[first : first + at_once])
            for part in logits.split(together):
                yield slice(first, first + len(part)), part
                first += len(part)
            del logits, part  # before the next ones are made

    def head(self, final: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocabulary"]:
        """Logits from what enters the unembedding, soft cap included.

        Args:
            final: Normalised residual stream.

        Returns:
            Logits.
        """
        with rounded(self.model):
            logits = self.plain.model.get_output_embeddings()(final)
        return architecture.finish_logits(self.plain.model.config, logits)


@dataclass(frozen=True)
class Earlier:
    """What comes before a position in each row, aligned at its end.

    Some architectures take a key's place among the keys for its position.

    Attributes:
        index: Positions in the row, ``[row, earlier]``; 0 where there is nothing.
        own: Whether there is something.
        room: Positions from there on, at most.
    """

    index: Int[Tensor, "row earlier"]
    own: Bool[Tensor, "row earlier"]
    room: int

    @classmethod
    def of(cls, start: Int[Tensor, " row"], mask: Int[Tensor, "row position"]) -> Earlier:
        """What comes before ``start`` in rows with such a mask."""
        earlier = int(start.max())
        position = torch.arange(earlier, device=start.device) - (earlier - start[:, None])
        room = int((mask.sum(1) - start).max())
        return cls(position.clamp(min=0), position >= 0, room)

    def room_for(self, x: Float[Tensor, "row head position d"], n: int) -> Tensor:
        """Room for that part of ``n`` tensors like this one, and behind it for what comes after."""
        rows, heads, _, d = x.shape
        return x.new_zeros(n, rows, heads, self.index.shape[1] + self.room, d)

    def take(self, x: Float[Tensor, "row head position d"], room: Tensor) -> Tensor:
        """Writes that part of keys or values into their room."""
        index = self.index[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3])
        room[:, :, : self.index.shape[1]] = x.gather(2, index)
        return room


class _CacheOfEarlier(DynamicCache):
    """Keeps keys and values of the blocks above, and of no more positions than are wanted."""

    def __init__(self, config: Any, layers: range, kept: Earlier) -> None:
        super().__init__(config=config)
        self._layers, self._kept = layers, kept
        # Of all blocks at once, most often: what is allocated between a block's large tensors would
        # hold their place when they go.
        self._rooms: dict[torch.Size, list[Tensor]] = {}
        self.past: dict[int, tuple[Tensor, Tensor]] = {}

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        if layer in self._layers:
            self.past[layer] = (self._taken(keys), self._taken(values))
        return keys, values

    def _taken(self, x: Tensor) -> Tensor:
        rooms = self._rooms.setdefault(x.shape, [])
        if not rooms:
            rooms += self._kept.room_for(x, 2 * len(self._layers))
        return self._kept.take(x, rooms.pop())


class _Past:
    """Constant keys and values of earlier positions, in place of a growing cache."""

    def __init__(self, past: dict[int, tuple[Tensor, Tensor]]) -> None:
        self._past = past

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        earlier_keys, earlier_values = self._past[layer]
        return (
            torch.cat([earlier_keys, keys], dim=2),
            torch.cat([earlier_values, values], dim=2),
        )

    def get_seq_length(self, *_: Any) -> int:
        return next(iter(self._past.values()))[0].shape[2] if self._past else 0

    def get_query_offset(self, *_: Any) -> int:
        return self.get_seq_length()

    def get_mask_sizes(self, query_length: int, *_: Any) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0


class _Skipped(nn.Module):
    """Stands for a block below: hands on what it gets, or the recorded residual stream."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.__dict__["original"] = original
        self.residual: Tensor | None = None
        self.as_tuple = False

    def __getattr__(self, name: str) -> Any:
        # Models ask their blocks for such things as the kind of attention.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["original"], name)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        result = hidden if self.residual is None else self.residual
        return (result,) if self.as_tuple else result


class _SelectedHead(nn.Module):
    """Stands for the unembedding: keeps what enters it at the wanted positions."""

    def __init__(self) -> None:
        super().__init__()
        self.at: tuple[Tensor, Tensor] | None = None
        self._final: list[Tensor] = []

    def forward(self, final: Tensor) -> Tensor:
        assert self.at is not None
        self._final = [final[self.at]]
        return final[:, :1]  # instead of logits, which nobody reads

    def selected(self) -> Tensor:
        """What entered in the last run, given away: it may hold a graph of gradients."""
        return self._final.pop()


def upper_part(unhooked: Plain, layer: int) -> tuple[Any, list[_Skipped], _SelectedHead]:
    """The model with blocks up to ``layer`` taken out, sharing all other modules."""
    blocks = unhooked.model.get_submodule(unhooked.blocks)
    below = [_Skipped(blocks[i]) for i in range(layer + 1)]
    upper = _replaced(
        unhooked.model, unhooked.blocks, nn.ModuleList([*below, *blocks[layer + 1 :]])
    )
    head = unhooked.model.get_output_embeddings()
    name = next(name for name, module in unhooked.model.named_modules() if module is head)
    selected = _SelectedHead()
    upper = _replaced(upper, name, selected)
    return upper.eval(), below, selected


def _replaced(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """A shallow copy of ``module`` whose submodule ``name`` is ``new``."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    child, _, rest = name.partition(".")
    twin._modules[child] = _replaced(getattr(module, child), rest, new) if rest else new
    return twin


def _hidden(result: Any) -> Tensor:
    return result[0] if isinstance(result, tuple) else result
