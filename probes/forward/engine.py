"""One way to run a model: what an engine does, and the one place where it is chosen.

============  =====================================================  ==============================
engine        runs                                                   serves
============  =====================================================  ==============================
``Bridge``    TransformerLens' bridge, the whole text every time     hooks, attention patterns,
                                                                     interventions; any weights
``Unhooked``  the Hugging Face class without hook points, keys and   everything else, on any
              values of earlier tokens cached                        architecture
``GPT2``      bare arithmetic where that is faster, otherwise as     models of GPT-2's layout
              ``Unhooked``
``Autocast``  as ``Unhooked``, matrix products in bfloat16           large models on a GPU, if asked
                                                                     for
============  =====================================================  ==============================

All run on the same weights, and tests hold each engine to the one above it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from probes.forward.autocast import Autocast
from probes.forward.batches import Place, Reader, TokenBatch, TokenIds
from probes.forward.bridge import Bridge
from probes.forward.gpt2.engine import GPT2
from probes.forward.unhooked import Unhooked
from probes.model.loaded import LoadedModel
from rome_diagnosis.errors import UserError


class Engine(Protocol):
    """Runs a model."""

    @property
    def model(self) -> LoadedModel:
        """The model that is run."""

    def read(self, batch: TokenBatch, readers: Mapping[Place, Reader]) -> None:
        """Runs a batch up to the highest block that is read, and no further.

        Args:
            batch: The texts.
            readers: What is called with each place's activation.
        """

    def after(self, prefixes: Sequence[TokenIds], layers: Sequence[int]) -> AfterPrefixes:
        """Prepares to read the keys of texts that come after prefixes.

        Args:
            prefixes: Token ids of each, possibly none.
            layers: The blocks whose keys are read, ascending; nothing above the last is run.
        """

    def decode(self, rows: Sequence[Sequence[int]]) -> Decoder:
        """Prepares to continue texts token by token.

        Args:
            rows: Token ids of each, none empty.
        """


class AfterPrefixes(Protocol):
    """Prefixes, and what the engine keeps of them."""

    def lay(self, texts: Sequence[TokenIds], most: int) -> Iterator[Laid]:
        """Lays texts out in the way that the engine runs them.

        Args:
            texts: Token ids of each, none empty.
            most: Most tokens of a layout; a longer text is a layout by itself.

        Yields:
            Layouts that together hold every text once.
        """


class Laid(Protocol):
    """Some texts, laid out to be run after prefixes.

    Attributes:
        rows: Index of each text among the texts given.
        tokens: How many tokens are run for each prefix.
    """

    @property
    def rows(self) -> list[int]: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102

    def keys(self, prefixes: Sequence[int]) -> list[Float[Tensor, "prefix row d_mlp"]]:
        """Keys at the texts' last tokens.

        Args:
            prefixes: Indices of prefixes of one length, which are run together.

        Returns:
            The keys of each block, on the model's device and in its type.
        """


class Decoder(Protocol):
    """Texts that grow by a token at a time."""

    def logits(self) -> Float[Tensor, "row vocabulary"]:
        """Logits of the next token, once for each length."""

    def append(self, tokens: Int[Tensor, "row 1"]) -> None:
        """Lengthens every text by one token."""

    def keep(self, rows: Sequence[int]) -> None:
        """Leaves all texts out of what follows but these, in this order."""


def engine_for(model: LoadedModel) -> Engine:
    """Chooses how a model is run.

    Args:
        model: The model. Its ``engine`` is ``"fast"`` for arithmetic written for its layout,
            ``"general"`` for what serves any architecture, ``"auto"`` for the fastest there is.
            Where the weights fit no Hugging Face class without hooks, as quantised ones do not,
            ``"auto"`` and ``"general"`` give the bridge.

    Returns:
        The engine; of a model with ``autocast``, one that reads in that type.

    Raises:
        UserError: If ``"fast"`` is asked for and the model's layout has no fast engine.
    """
    if model.autocast is not None:
        exact = model.exact()
        return Autocast(model, engine_for(exact.run_by("general")), engine_for(exact))
    try:
        unhooked = Unhooked(model)
    except UserError:
        if model.engine == "fast":
            raise
        return Bridge(model)
    if model.engine != "general" and GPT2.applies(unhooked):
        return GPT2(model)
    if model.engine == "fast":
        raise UserError(f"there is no fast engine for {model.name}: only for GPT-2's layout")
    return unhooked
