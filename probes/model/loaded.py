"""A model that is loaded: its name, its parts, and where they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float

from probes.model import architecture
from probes.model.architecture import Site as Site
from probes.model.spread import SpreadState, device_of
from probes.model.tokens import Tokens as Tokens
from probes.model.tokens import token_text, tokenise
from rome_diagnosis.defaults import Autocast, Engines
from rome_diagnosis.errors import UserError


@dataclass(frozen=True)
class LoadedModel:
    """A language model wrapped by TransformerLens' bridge, with the plain tokenizer beside it.

    Attributes:
        bridge: The ``TransformerBridge``; its weights are those of the Hugging Face model.
        tokenizer: The plain fast Hugging Face tokenizer.
        name: What the user called the model.
        path: The directory it was loaded from, or the hub name.
        bos: Whether every text begins with a begin-of-sequence token.
        fingerprint: Identifies the weights; see :func:`probes.model.fingerprint.fingerprint`.
        state_dict: The Hugging Face model's parameters (shared, not copied) under the names they
            had before wrapping, which saving an edited model needs.
        weights: What the weights were before they were loaded, where that is not the type they
            have now: ``"from Q4_1 …"``; ``None`` otherwise.
        autocast: Type in which passes over text multiply matrices, where that is not the weights':
            see :mod:`probes.forward.autocast`.
        engine: Which engine runs it; see :func:`probes.forward.engine.engine_for`.
        kept: What was measured on the model and may be used again for as long as it lives.
    """

    bridge: Any
    tokenizer: Any
    name: str
    path: str
    bos: bool
    fingerprint: str
    state_dict: Mapping[str, torch.Tensor]
    weights: str | None = None
    autocast: Autocast | None = None
    engine: Engines = "auto"
    kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def config(self) -> Any:
        """The bridge's configuration (``d_model``, ``d_mlp``, ``n_layers`` …)."""
        return self.bridge.cfg

    @property
    def hf_config(self) -> Any:
        """The Hugging Face configuration."""
        return self.bridge.original_model.config

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.config.n_layers)

    @property
    def n_ctx(self) -> int:
        """Longest text in tokens."""
        return int(self.config.n_ctx)

    @property
    def device(self) -> torch.device:
        """Where the first block's weights are, and texts go."""
        return device_of(self.state_dict, self.bridge.blocks[0])

    @property
    def is_spread(self) -> bool:
        """Whether the weights are not all on one device: it runs by the bridge, and unedited."""
        return isinstance(self.state_dict, SpreadState)

    @property
    def weight_bytes(self) -> int:
        """What the weights take; on one device tied ones and views of others count once."""
        if isinstance(self.state_dict, SpreadState):
            return self.state_dict.nbytes
        stored = [weight.untyped_storage() for weight in self.state_dict.values()]
        return sum({storage.data_ptr(): storage.nbytes() for storage in stored}.values())

    @property
    def dtype(self) -> str:
        """The weights' type, e.g. ``"float32"``."""
        return str(next(iter(self.bridge.blocks[0].parameters())).dtype).removeprefix("torch.")

    @property
    def computed_in(self) -> str:
        """The type that activations are rounded to, e.g. ``"float32"``."""
        return self.autocast or self.dtype

    @property
    def arithmetic(self) -> str:
        """What runs whose results must not be mixed differ in: the weights' type, the passes'."""
        return self.dtype if self.autocast is None else f"{self.dtype}, passes in {self.autocast}"

    def exact(self) -> LoadedModel:
        """The same model, passes in the weights' own type."""
        return self if self.autocast is None else replace(self, autocast=None)

    def run_by(self, engine: Engines) -> LoadedModel:
        """The same model, run by another engine; nothing that was measured on it is kept."""
        return replace(self, engine=engine, kept={})

    def tokens(self, text: str) -> Tokens:
        """Tokenises ``text`` in one piece, as the plain tokenizer does it.

        Args:
            text: The text, subject and prefix in place.

        Returns:
            Ids and character offsets.
        """
        return tokenise(self.tokenizer, text, bos=self.bos)

    def token_text(self, token_id: int) -> str:
        """See :func:`probes.model.tokens.token_text`."""
        return token_text(self.tokenizer, token_id)

    def hook(self, layer: int, site: Site) -> str:
        """Name of a hook point.

        Args:
            layer: Block index.
            site: See :func:`probes.model.architecture.hook_name`.

        Returns:
            The bridge's name for it.

        Raises:
            UserError: If the model has no such block.
        """
        self.check_layer(layer)
        return architecture.hook_name(self.bridge, layer, site)

    def output_weight(self, layer: int) -> Float[torch.Tensor, "d_mlp d_model"]:
        """W of a block's MLP output projection, a view: writing to it edits the model.

        Raises:
            UserError: If the model has no such block, or its weights are quantised or off-loaded.
        """
        self.check_layer(layer)
        return architecture.output_weight(self.bridge, layer)

    @torch.no_grad()
    def mlp_output(
        self, keys: Float[torch.Tensor, "*n d_mlp"], layer: int
    ) -> Float[torch.Tensor, "*n d_model"]:
        """The output projection of a block's MLP: k @ W + b.

        Args:
            keys: Keys.
            layer: The block.

        Returns:
            The outputs, float64 on the CPU.
        """
        module = architecture.output_projection(self.bridge, layer)
        like = next(
            weight
            for weight in (*module.parameters(), *self.bridge.blocks[layer].parameters())
            if weight.is_floating_point()
        )
        device = self.device if self.is_spread else like.device
        output: torch.Tensor = module(keys.to(device, like.dtype))
        return output.to("cpu", torch.float64)

    def check_layer(self, layer: int) -> None:
        """Raises ``UserError`` unless block ``layer`` exists."""
        if not 0 <= layer < self.n_layers:
            raise UserError(
                f"layer {layer} is out of range: {self.name} has layers 0 to {self.n_layers - 1}"
            )

    def default_layer(self) -> int:
        """The layer that published work edits, else the one a quarter up, by a stated rule."""
        names = (self.name, self.path, *_former_names(self.path))
        known = architecture.published_edit_layer(names, self.n_layers)
        return architecture.unpublished_edit_layer(self.n_layers) if known is None else known


def describe_model(model: LoadedModel) -> dict[str, Any]:
    """What a result says about its model (the contract's ``model`` object)."""
    return {
        "name": model.name,
        "path": model.path,
        "architecture": str(model.config.architecture),
        "n_layers": model.n_layers,
        "d_model": int(model.config.d_model),
        "d_mlp": int(model.config.d_mlp),
        "dtype": model.dtype,
        "device": "spread by device_map" if model.is_spread else str(model.device),
        "bos_prepended": model.bos,
        "fingerprint": model.fingerprint,
        "weights": model.weights,
        **({} if model.autocast is None else {"autocast": model.autocast}),
    }


def _former_names(path: str) -> tuple[str, ...]:
    """What the model in a directory was loaded from before it was saved there, if it says so."""
    try:
        config = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        return (str(config["_name_or_path"]),)
    except (OSError, ValueError, KeyError, TypeError):
        return ()
