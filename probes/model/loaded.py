"""Loading a model so that the numbers measured on it mean what they seem to mean.

Weights stay raw: TransformerLens' compatibility mode centres and folds them, which changes keys
and residual norms. Texts are tokenised by the plain Hugging Face tokenizer, because what the
published editing code calls "the first token" is decided by its defaults about begin-of-sequence
tokens; the bridge's own tokenizer prepends one even where the plain one does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float

from rome_diagnosis.errors import UserError

Site = Literal["key", "value", "resid_pre", "resid_post", "pattern"]

# Layers edited in the published work (ROME's and EasyEdit's hyper-parameter files).
PUBLISHED_EDIT_LAYERS = {
    "gpt2-xl": 17,
    "gpt2-large": 12,
    "gpt2-medium": 8,
    "gpt-j-6b": 5,
    "llama-2-7b": 5,
    "llama-2-7b-hf": 5,
}


@dataclass(frozen=True)
class Tokens:
    """A tokenised text.

    Attributes:
        ids: Token ids, a begin-of-sequence token included where one is prepended.
        offsets: For each token the characters ``[start, end)`` of the text it covers; ``(0, 0)``
            for a token that covers none.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True)
class LoadedModel:
    """A language model behind TransformerLens' bridge, with the plain tokenizer beside it.

    Attributes:
        bridge: The ``TransformerBridge``; its weights are those of the Hugging Face model.
        tokenizer: The plain fast Hugging Face tokenizer.
        name: What the user called the model.
        path: The directory it was loaded from, or the hub name.
        bos: Whether a begin-of-sequence token is put in front of every text.
        fingerprint: Identifies the weights; see :func:`probes.model.fingerprint.fingerprint`.
        state_dict: The Hugging Face model's parameters (shared, not copied) under the names they
            had before wrapping, which saving an edited model needs.
    """

    bridge: Any
    tokenizer: Any
    name: str
    path: str
    bos: bool
    fingerprint: str
    state_dict: dict[str, torch.Tensor]

    @property
    def config(self) -> Any:
        """The bridge's configuration (``d_model``, ``d_mlp``, ``n_layers`` …)."""
        return self.bridge.cfg

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
        """Where the first block's weights are."""
        return next(iter(self.bridge.blocks[0].parameters())).device

    @property
    def dtype(self) -> str:
        """The weights' type, e.g. ``"float32"``."""
        return str(next(iter(self.bridge.blocks[0].parameters())).dtype).removeprefix("torch.")

    @property
    def norm_behind_mlp(self) -> bool:
        """Whether a norm stands between the MLP and the residual stream, as in Gemma 2.

        There a change of the MLP's output is rescaled before it reaches the stream, so its size
        says nothing about the size of the push.
        """
        return hasattr(self.bridge.blocks[0], "ln2_post")

    def tokens(self, text: str) -> Tokens:
        """Tokenises ``text`` once, as a whole, as the plain tokenizer does it.

        Args:
            text: The text, subject and prefix in place.

        Returns:
            Ids and character offsets.
        """
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        ids = list(encoded["input_ids"])
        offsets = [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
        if self.bos:
            ids.insert(0, int(self.tokenizer.bos_token_id))
            offsets.insert(0, (0, 0))
        return Tokens(ids, offsets)

    def token_text(self, token_id: int) -> str:
        """The token as its vocabulary writes it, a leading space shown as ``␣``."""
        piece = self.tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        vocabulary = str(self.tokenizer.convert_ids_to_tokens(token_id))
        # Sentencepiece vocabularies decode "▁Apple" to "Apple": the space is only in the piece.
        if vocabulary.startswith("▁") and not piece.startswith(" "):
            piece = " " + piece
        return "␣" + piece[1:] if piece.startswith(" ") else piece

    def hook(self, layer: int, site: Site) -> str:
        """Name of a hook point.

        Args:
            layer: Block index.
            site: ``key`` is the input of the MLP's output projection, ``value`` that MLP's output,
                ``resid_pre`` and ``resid_post`` the residual stream before and after the block,
                ``pattern`` the attention pattern.

        Returns:
            The bridge's name for it.

        Raises:
            UserError: If the model has no such block.
        """
        self.check_layer(layer)
        return (
            f"blocks.{layer}."
            + {
                "key": "mlp.out.hook_in",
                "value": "mlp.hook_out",
                "resid_pre": "hook_in",
                "resid_post": "hook_out",
                "pattern": "attn.hook_pattern",
            }[site]
        )

    @torch.no_grad()
    def mlp_output(
        self, keys: Float[torch.Tensor, "*n d_mlp"], layer: int
    ) -> Float[torch.Tensor, "*n d_model"]:
        """What a block's MLP gives out for keys: nothing but an affine map stands behind them.

        Args:
            keys: Keys.
            layer: The block.

        Returns:
            The outputs, float64 on the CPU.
        """
        block = self.bridge.blocks[layer]
        weights = (*block.mlp.out.parameters(), *block.parameters())
        like = next(weight for weight in weights if weight.is_floating_point())
        made: torch.Tensor = block.mlp.out(keys.to(like))
        return made.to("cpu", torch.float64)

    def check_layer(self, layer: int) -> None:
        """Raises ``UserError`` unless block ``layer`` exists."""
        if not 0 <= layer < self.n_layers:
            raise UserError(
                f"layer {layer} is out of range: {self.name} has layers 0 to {self.n_layers - 1}"
            )

    def default_layer(self) -> int:
        """The layer that published work edits, else one third up, where those layers lie."""
        known = PUBLISHED_EDIT_LAYERS.get(Path(self.path).name.lower())
        return known if known is not None and known < self.n_layers else self.n_layers // 3


def describe(model: LoadedModel) -> dict[str, Any]:
    """What a result says about its model (the contract's ``model`` object)."""
    return {
        "name": model.name,
        "path": model.path,
        "architecture": str(model.config.architecture),
        "n_layers": model.n_layers,
        "d_model": int(model.config.d_model),
        "d_mlp": int(model.config.d_mlp),
        "dtype": model.dtype,
        "device": str(model.device),
        "bos_prepended": model.bos,
        "fingerprint": model.fingerprint,
    }
