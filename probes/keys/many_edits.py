"""Keys of many requests in the same contexts: each prefix is run once.

The key at the subject's last token depends only on the tokens up to it. Many requests in one set
of contexts therefore share the prefixes, and what the model computes for them; texts that are
equal after a prefix are computed once. A prefix and a prompt are shared only where the tokens of
the two together really are the prefix's tokens followed by others; elsewhere the text is run from
its beginning.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from probes.forward.batches import TokenIds, by_length, tokens_at_once
from probes.forward.engine import AfterPrefixes, Laid, engine_for
from probes.forward.gpt2.engine import GPT2
from probes.model.loaded import LoadedModel
from probes.model.tokens import tokenise_all
from probes.request.lookup import Lookup, find
from probes.request.request import Request
from rome_diagnosis.errors import UserError

# Tokens run at once. More do not multiply any faster on a CPU and fall out of its caches; a GPU
# wants more. Of them a tenth are texts, because ten of the sampled prefixes are of one length and
# run together; attention among more texts than a thousand tokens costs more than it saves.
TOKENS = {"cpu": 2560, "cuda": 65_536}
# Numbers that an MLP makes of them at most: a gigabyte, which keeps the widest GPU busy.
NUMBERS = 2**28
AT_ONCE, LARGEST_LAYOUT = 10, 1024


@dataclass(frozen=True)
class Placed:
    """A request, looked up in every context.

    Attributes:
        request: The request.
        bare: The lookup in the bare prompt.
        suffixes: For each context 0…n the prefix's index among the shared ones (0 for none) and
            the tokens after it, up to the lookup token.
    """

    request: Request
    bare: Lookup
    suffixes: tuple[tuple[int, TokenIds], ...]


@dataclass(frozen=True)
class ContextKeys:
    """The keys of requests in contexts 0…n; equal ones are held once.

    Attributes:
        distinct: Keys, ``[distinct, d_mlp]``: float32, or float64 where the model is.
        index: Row of ``distinct`` that each key is, ``[request, context]``.
    """

    distinct: Float[Tensor, "distinct d_mlp"]
    index: Int[Tensor, "request context"]

    def of(self, requests: slice = slice(None)) -> Float[Tensor, "request context d_mlp"]:
        """The keys of some requests, float64."""
        return self.distinct[self.index[requests]].to(torch.float64)


class SharedPrefixes:
    """The contexts of a data set, on one model and one layer or several."""

    def __init__(
        self,
        model: LoadedModel,
        layers: int | Sequence[int],
        prefixes: Sequence[str],
    ) -> None:
        """Tokenises the prefixes; they are run when the first keys are asked for.

        Args:
            model: The model.
            layers: The edited block, or several in ascending order.
            prefixes: Contexts 1…n, each ending in white space.

        Raises:
            UserError: If the model has no such layer.
        """
        self.layers = (layers,) if isinstance(layers, int) else tuple(layers)
        for layer in self.layers:
            model.check_layer(layer)
        self.model, self.prefixes = model, list(prefixes)
        self._tokens = TOKENS.get(model.device.type, TOKENS["cpu"])
        self._tokens = min(self._tokens, NUMBERS // int(model.config.d_mlp))
        if model.device.type == "cpu" and not isinstance(engine_for(model), GPT2):
            # Padded rows of a wide model are faster a few at a time, a tree of texts is not.
            self._tokens = min(self._tokens, 2 * tokens_at_once(model))
        # Kept with the model: a large tokenizer takes a third of a second to describe itself.
        known, tokenizer = model.kept, model.tokenizer
        if known.get("splits_at_spaces", (None,))[0] != len(tokenizer):
            known["splits_at_spaces"] = len(tokenizer), splits_at_spaces(tokenizer)
        self._splits = known["splits_at_spaces"][1]
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

    @property
    def layer(self) -> int:
        """The edited block; of several the last."""
        return self.layers[-1]

    def at(self, layer: int) -> SharedPrefixes:
        """The same contexts at one layer alone."""
        one = copy.copy(self)
        one.layers = (layer,)
        one.__dict__.pop("_after", None)
        return one

    def place(self, requests: Sequence[Request]) -> list[Placed | UserError]:
        """Looks requests up in every context.

        Args:
            requests: The requests.

        Returns:
            For each where it is looked up, or why it cannot be.
        """
        if not requests:
            return []
        # After a space every prefix of the joined kind gives the same tokens.
        prefixes = ["", " "] if self._joined and self.prefixes else ["", *self.prefixes]
        texts = [prefix + request.text for request in requests for prefix in prefixes]
        tokens = iter(tokenise_all(self.model.tokenizer, texts, bos=self.model.bos))
        placed: list[Placed | UserError] = []
        for request in requests:
            own = [next(tokens) for _ in prefixes]
            try:
                looked = [
                    find(self.model, request, prefix, tokens_of)
                    for prefix, tokens_of in zip(prefixes, own, strict=True)
                ]
                placed.append(self._place(request, looked))
            except UserError as error:
                placed.append(error)
        return placed

    def _place(self, request: Request, looked: list[Lookup]) -> Placed:
        bare = (0, tuple(looked[0].ids))
        if self._joined and self.prefixes:
            # A begin-of-sequence token comes before the prefix, not before what follows it.
            suffix = tuple(looked[1].ids[int(self.model.bos) :])
            longest = max(len(self.heads[i]) for i in self._head_of)
            if longest + len(suffix) > self.model.n_ctx:
                raise UserError(
                    f"the subject's last token is at index {longest + len(suffix) - 1}, but "
                    f"{self.model.name} reads only {self.model.n_ctx} tokens"
                )
            return Placed(request, looked[0], (bare, *((i, suffix) for i in self._head_of[1:])))
        suffixes = [bare]
        for context, i in enumerate(self._head_of[1:], 1):
            head, ids = self.heads[i], tuple(looked[context].ids)
            shared = head and len(ids) > len(head) and ids[: len(head)] == head
            suffixes.append((i, ids[len(head) :]) if shared else (0, ids))
        return Placed(request, looked[0], tuple(suffixes))

    def capture(self, placed: Sequence[Placed]) -> ContextKeys:
        """Captures keys of one layer.

        Args:
            placed: Requests.

        Returns:
            Their keys in contexts 0…n.
        """
        (keys,) = self.capture_layers(placed)
        return keys

    def capture_layers(self, placed: Sequence[Placed]) -> list[ContextKeys]:
        """Captures keys of every layer in one pass up to the last of them.

        Args:
            placed: Requests.

        Returns:
            For each layer their keys in contexts 0…n.
        """
        texts: dict[int, dict[TokenIds, int]] = {}
        for at in placed:
            for head, text in at.suffixes:
                own = texts.setdefault(head, {})
                own.setdefault(text, len(own))
        # Prefixes before the same texts are run together.
        together: dict[tuple[TokenIds, ...], list[int]] = {}
        for head, own in texts.items():
            together.setdefault(tuple(own), []).append(head)
        count, d_mlp = sum(len(own) for own in texts.values()), int(self.model.config.d_mlp)
        dtype = torch.promote_types(torch.float32, getattr(torch, self.model.dtype))
        distinct = torch.empty(len(self.layers), count, d_mlp, dtype=dtype)
        first: dict[int, int] = {}
        start = 0
        for list_of_texts, heads in together.items():
            n = len(list_of_texts)
            first |= {head: start + i * n for i, head in enumerate(heads)}
            stop = start + len(heads) * n
            self._run(heads, list_of_texts, distinct[:, start:stop].unflatten(1, (-1, n)))
            start = stop
        index = [[first[head] + texts[head][text] for head, text in at.suffixes] for at in placed]
        contexts = len(placed[0].suffixes) if placed else 0
        laid = torch.tensor(index, dtype=torch.long).view(len(placed), contexts)
        return [ContextKeys(keys, laid) for keys in distinct]

    @cached_property
    def _after(self) -> AfterPrefixes:
        return engine_for(self.model).after(self.heads, self.layers)

    def _run(
        self,
        heads: Sequence[int],
        texts: Sequence[TokenIds],
        into: Float[Tensor, "layer head text d_mlp"],
    ) -> None:
        """Writes the keys at the texts' last tokens after each prefix, in the order given."""
        waiting = list(range(len(texts)))
        while waiting:
            done: set[int] = set()
            most = max(1, min(self._tokens // AT_ONCE, LARGEST_LAYOUT))
            for laid in self._after.lay([texts[i] for i in waiting], most):
                rows = [waiting[row] for row in laid.rows]
                if not self._read(laid, heads, rows, into):
                    break
                done.update(rows)
            waiting = [i for i in waiting if i not in done]

    def _read(
        self,
        laid: Laid,
        heads: Sequence[int],
        rows: Sequence[int],
        into: Float[Tensor, "layer head text d_mlp"],
    ) -> bool:
        """Writes the keys of one layout; ``False`` if it did not fit into memory."""
        for some in self._together(heads, laid.tokens):
            try:
                keys = laid.keys([heads[i] for i in some])
            except RuntimeError as error:
                if not out_of_memory(error) or len(some) == len(rows) == 1:
                    raise
                # Half of it may fit; from now on no more than that is run at once.
                self._tokens = max(1, len(some) * laid.tokens // 2)
                return False
            for of_layer, read in zip(into, keys, strict=True):
                of_layer[torch.tensor(some)[:, None], torch.tensor(rows)] = read.to(into)
        return True

    def _together(self, heads: Sequence[int], tokens: int) -> Iterator[list[int]]:
        """Indices of prefixes of one length, as many as are run at once."""
        size = max(1, self._tokens // tokens)
        for alike in by_length([self.heads[head] for head in heads]).values():
            for start in range(0, len(alike), size):
                yield alike[start : start + size]


def splits_at_spaces(tokenizer: Any) -> bool:
    """Whether a text is tokenised apart at a space that follows a non-space, for certain.

    GPT-2's kind cuts a text into pieces before it merges anything. No piece has white space
    inside except a run at its beginning, so one begins at such a space whatever stands around it.

    Args:
        tokenizer: The plain tokenizer.

    Returns:
        Whether it is of that kind; ``False`` only means that it is not known to be.
    """
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    cut = settings.get("pre_tokenizer") or {}
    return (
        cut.get("type") == "ByteLevel"
        and cut.get("use_regex", True)
        and not cut.get("add_prefix_space")
        and settings.get("normalizer") is None
        and settings["model"]["type"] == "BPE"
        and not settings["model"].get("dropout")
        # A token of the user's own could span the place, or swallow the space beside it.
        and not any(
            " " in token["content"] or token["lstrip"] or token["rstrip"]
            for token in settings.get("added_tokens", [])
        )
    )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a batch did not fit: CUDA has a class for that, the CPU's allocator a message."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        phrase in str(error) for phrase in ("out of memory", "can't allocate memory")
    )
