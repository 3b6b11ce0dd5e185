"""Keys of many requests in the same contexts: each prefix is run once, its attention kept.

The key at the subject's last token depends only on the tokens up to it. Many requests in one set
of contexts therefore share the prefixes, and what the model computes for them; equal texts behind
a prefix are computed once. A prefix and a prompt are shared so only where the tokens of the two
together really are the tokens of the prefix and then others; elsewhere the text is run whole.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.forward.batches import batches
from probes.forward.gpt2 import tree_keys
from probes.forward.gpt2.blocks import is_gpt2
from probes.forward.gpt2.prefix_tree import Suffix, trees
from probes.forward.unhooked import Plain, Reached, plain, until_reached
from probes.keys.one_edit import capture
from probes.model import architecture
from probes.model.loaded import LoadedModel, Tokens
from probes.request.lookup import Lookup, find
from probes.request.request import Request
from rome_diagnosis.errors import UserError

# Tokens run at once. More do not multiply any faster on a CPU and fall out of its caches; a GPU
# wants more.
NODES = {"cpu": 2048, "cuda": 65_536}


@dataclass(frozen=True)
class Placed:
    """A request, looked up in every context.

    Attributes:
        bare: The lookup in the bare prompt.
        suffixes: For each context 0…n the prefix's index among the shared ones (0 for none) and
            the tokens behind it, up to the lookup token.
    """

    bare: Lookup
    suffixes: tuple[tuple[int, Suffix], ...]


@dataclass(frozen=True)
class ContextKeys:
    """The keys of requests in contexts 0…n; equal ones are held once.

    Attributes:
        distinct: Keys, ``[distinct, d_mlp]``: float32, or float64 where the model is.
        index: Which of them stand where, ``[request, context]``.
    """

    distinct: Float[Tensor, "distinct d_mlp"]
    index: Int[Tensor, "request context"]

    def of(self, requests: slice = slice(None)) -> Float[Tensor, "request context d_mlp"]:
        """The keys of some requests, float64."""
        return self.distinct[self.index[requests]].to(torch.float64)


class Runner(Protocol):
    """Runs texts behind prefixes it has run before."""

    def run(
        self,
        heads: Sequence[int],
        texts: Sequence[Suffix],
        into: Float[Tensor, "head text d_mlp"],
    ) -> None:
        """Writes the keys at the texts' last tokens behind each prefix, in the order given."""


class SharedPrefixes:
    """The contexts of a data set, on one model and layer."""

    def __init__(self, model: LoadedModel, layer: int, prefixes: Sequence[str]) -> None:
        """Tokenises the prefixes; they are run when the first keys are asked for.

        Args:
            model: The model.
            layer: The edited block.
            prefixes: Contexts 1…n, each ending in white space.

        Raises:
            UserError: If the model has no such layer.
        """
        model.check_layer(layer)
        self.model, self.layer, self.prefixes = model, layer, list(prefixes)
        self._splits = splits_at_spaces(model.tokenizer)
        # A prefix whose only white space at the end is one space: that space goes to the prompt.
        ending = [p.endswith(" ") and p[-2:-1].strip() != "" for p in prefixes]
        self._joined = self._splits and all(ending)
        # Prefixes that are drawn twice, as short ones are, are one head.
        heads: dict[tuple[int, ...], int] = {(): 0}
        self._head_of: list[int] = [0]
        for prefix in prefixes:
            text = prefix[:-1] if self._joined else prefix.rstrip()
            head = tuple(model.tokens(text).ids) if text else ()
            self._head_of.append(heads.setdefault(head, len(heads)))
        self.heads = list(heads)

    def place(self, requests: Sequence[Request]) -> list[Placed | UserError]:
        """Looks requests up in every context.

        Args:
            requests: The requests.

        Returns:
            For each where it is looked up, or why it cannot be.
        """
        if not requests:
            return []
        # Behind a space every prefix of the joined kind gives the same tokens.
        prefixes = ["", " "] if self._joined and self.prefixes else ["", *self.prefixes]
        texts = [prefix + request.text for request in requests for prefix in prefixes]
        tokens = iter(_tokenise(self.model, texts))
        placed: list[Placed | UserError] = []
        for request in requests:
            own = [next(tokens) for _ in prefixes]
            try:
                looked = [
                    find(self.model, request, prefix, found)
                    for prefix, found in zip(prefixes, own, strict=True)
                ]
                placed.append(self._place(looked))
            except UserError as error:
                placed.append(error)
        return placed

    def _place(self, looked: list[Lookup]) -> Placed:
        bare = (0, tuple(looked[0].ids))
        if self._joined and self.prefixes:
            # A begin-of-sequence token stands in front of the head, not of what follows.
            suffix = tuple(looked[1].ids[int(self.model.bos) :])
            longest = max(len(self.heads[i]) for i in self._head_of)
            if longest + len(suffix) > self.model.n_ctx:
                raise UserError(
                    f"the subject's last token is at index {longest + len(suffix) - 1}, but "
                    f"{self.model.name} reads only {self.model.n_ctx} tokens"
                )
            return Placed(looked[0], (bare, *((i, suffix) for i in self._head_of[1:])))
        suffixes = [bare]
        for context, i in enumerate(self._head_of[1:], 1):
            head, ids = self.heads[i], tuple(looked[context].ids)
            shared = head and len(ids) > len(head) and ids[: len(head)] == head
            suffixes.append((i, ids[len(head) :]) if shared else (0, ids))
        return Placed(looked[0], tuple(suffixes))

    def capture(self, placed: Sequence[Placed]) -> ContextKeys:
        """Captures keys.

        Args:
            placed: Requests.

        Returns:
            Their keys in contexts 0…n.
        """
        texts: dict[int, dict[Suffix, int]] = {}
        for at in placed:
            for head, text in at.suffixes:
                own = texts.setdefault(head, {})
                own.setdefault(text, len(own))
        # Prefixes that stand in front of the same texts are run together.
        together: dict[tuple[Suffix, ...], list[int]] = {}
        for head, own in texts.items():
            together.setdefault(tuple(own), []).append(head)
        count, d_mlp = sum(len(own) for own in texts.values()), int(self.model.config.d_mlp)
        dtype = torch.promote_types(torch.float32, getattr(torch, self.model.dtype))
        distinct = torch.empty(count, d_mlp, dtype=dtype)
        first: dict[int, int] = {}
        start = 0
        for list_of_texts, heads in together.items():
            n = len(list_of_texts)
            first |= {head: start + i * n for i, head in enumerate(heads)}
            stop = start + len(heads) * n
            self._runner.run(heads, list_of_texts, distinct[start:stop].unflatten(0, (-1, n)))
            start = stop
        index = [[first[head] + texts[head][text] for head, text in at.suffixes] for at in placed]
        return ContextKeys(distinct, torch.tensor(index, dtype=torch.long))

    @cached_property
    def _runner(self) -> Runner:
        try:
            whole = plain(self.model)
        except UserError:  # weights that are not one matrix: they can be measured all the same
            return WholeRunner(self.model, self.layer, self.heads)
        if is_gpt2(whole):
            return PackedRunner(whole, self.layer, self.heads, self.model.device)
        return CachedRunner(whole, self.layer, self.heads, self.model.device)


class PackedRunner:
    """For GPT-2: trees of texts through the blocks' bare arithmetic."""

    def __init__(
        self, whole: Plain, layer: int, heads: Sequence[Sequence[int]], device: torch.device
    ) -> None:
        self._blocks = tree_keys.PackedBlocks(whole, layer)
        self._pasts = self._blocks.pasts(heads)
        self._device = device
        self._nodes = NODES.get(device.type, NODES["cpu"])

    def run(self, heads: Sequence[int], texts: Sequence[Suffix], into: Tensor) -> None:
        """See :class:`Runner`."""
        pasts = [self._pasts[head] for head in heads]
        done: set[int] = set()
        waiting = list(range(len(texts)))
        while waiting:
            for tree in trees([texts[i] for i in waiting], nodes=self._nodes):
                rows = [waiting[row] for row in tree.rows]
                on_device = tree.to(self._device)
                try:
                    for chunk, keys in self._blocks.run(on_device, pasts, nodes=self._nodes):
                        into[torch.tensor(chunk)[:, None], torch.tensor(rows)] = keys.to(into)
                except RuntimeError as error:
                    at_once = tree_keys.together(tree, len(pasts), self._nodes)
                    if not out_of_memory(error) or at_once == len(tree.rows) == 1:
                        raise
                    # Half of it may fit; from now on batches are that small.
                    self._nodes = max(1, at_once * len(tree.ids) // 2)
                    break
                done.update(rows)
            waiting = [i for i in waiting if i not in done]


class CachedRunner:
    """For any architecture: padded rows behind a copy of the prefix's cache."""

    def __init__(
        self, whole: Plain, layer: int, heads: Sequence[Sequence[int]], device: torch.device
    ) -> None:
        self._whole, self._layer, self._device = whole, layer, device
        self._tokens = NODES.get(device.type, NODES["cpu"])
        self._caches = [self._prefill(head) if head else None for head in heads]

    def run(self, heads: Sequence[int], texts: Sequence[Suffix], into: Tensor) -> None:
        """See :class:`Runner`."""
        for head, keys in zip(heads, into, strict=True):
            self._run(head, texts, keys)

    def _run(self, head: int, texts: Sequence[Suffix], into: Tensor) -> None:
        done: set[int] = set()
        waiting = list(range(len(texts)))
        while waiting:
            for batch in batches(
                [texts[i] for i in waiting], self._device, batch_tokens=self._tokens
            ):
                rows = [waiting[row] for row in batch.rows]
                try:
                    keys = self._forward(batch.ids, self._caches[head])
                except RuntimeError as error:
                    if not out_of_memory(error) or len(rows) == 1:
                        raise
                    self._tokens = max(1, batch.ids.numel() // 2)
                    break
                at = torch.arange(len(rows), device=self._device)
                into[rows] = keys[at, batch.last].to(into)
                done.update(rows)
            waiting = [i for i in waiting if i not in done]

    @torch.no_grad()
    def _prefill(self, head: Sequence[int]) -> Any:
        ids = torch.tensor([list(head)], device=self._device)
        return self._whole.model.base_model(ids, use_cache=True).past_key_values

    @torch.no_grad()
    def _forward(self, ids: Tensor, cache: Any) -> Tensor:
        """Padding stands behind the texts, where no text's own tokens see it."""
        seen: list[Tensor] = []

        def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
            seen.append(architecture.in_rows(inputs[0], ids))
            raise Reached

        past = None
        if cache is not None:
            past = copy.deepcopy(cache)
            past.batch_repeat_interleave(len(ids))
        handle = self._whole.output_projection(self._layer).register_forward_pre_hook(hook)
        with until_reached([handle]):
            self._whole.model.base_model(ids, past_key_values=past, use_cache=past is not None)
        return seen[0]


class WholeRunner:
    """Where only the bridge can run the model: whole texts, nothing kept."""

    def __init__(self, model: LoadedModel, layer: int, heads: Sequence[tuple[int, ...]]) -> None:
        self._model, self._layer, self._heads = model, layer, heads

    def run(self, heads: Sequence[int], texts: Sequence[Suffix], into: Tensor) -> None:
        """See :class:`Runner`."""
        for head, keys in zip(heads, into, strict=True):
            whole = [[*self._heads[head], *text] for text in texts]
            lookups = [Lookup("", ids, len(ids) - 1, "") for ids in whole]
            keys.copy_(capture(self._model, lookups, self._layer).keys)


def splits_at_spaces(tokenizer: Any) -> bool:
    """Whether a text is tokenised apart at a space that follows a non-space, for certain.

    GPT-2's kind cuts a text into pieces before it merges anything. No piece has white space
    inside except a run at its beginning, so one begins at such a space whatever stands around it.

    Args:
        tokenizer: The plain tokenizer.

    Returns:
        Whether it is of that kind; ``False`` only means that it is not known to be.
    """
    made = json.loads(tokenizer.backend_tokenizer.to_str())
    cut = made.get("pre_tokenizer") or {}
    return (
        cut.get("type") == "ByteLevel"
        and cut.get("use_regex", True)
        and not cut.get("add_prefix_space")
        and made.get("normalizer") is None
        and made["model"]["type"] == "BPE"
        and not made["model"].get("dropout")
        # A token of the user's own could span the place, or swallow the space beside it.
        and not any(
            " " in token["content"] or token["lstrip"] or token["rstrip"]
            for token in made.get("added_tokens", [])
        )
    )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a batch did not fit: CUDA has a class for that, the CPU's allocator a message."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        phrase in str(error) for phrase in ("out of memory", "can't allocate memory")
    )


def _tokenise(model: LoadedModel, texts: list[str]) -> list[Tokens]:
    """What :meth:`LoadedModel.tokens` gives for each text, in one call."""
    encoded = model.tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    head = [int(model.tokenizer.bos_token_id)] if model.bos else []
    return [
        Tokens([*head, *ids], [*([(0, 0)] * len(head)), *offsets])
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
