"""Small random models of many architectures, written to disk as a user's would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TRAINING_TEXT = [
    "Apple was founded by Steve Jobs. The capital of France is Paris, and Paris lies on the Seine.",
    "Because the weather was fine, they walked to the river. I think you should read this.",
    "Paris lies on the Seine. They read that Apple was founded in California.",
    "Therefore the mother tongue of Danielle Darrieux is French. The Space Needle is in Seattle.",
] * 20


def byte_level_tokenizer(directory: Path, *, bos: bool = False) -> None:
    """GPT-2's kind: bytes, merges, no normalisation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    _save(tokenizer, directory, bos=bos)


def sentencepiece_like_tokenizer(directory: Path, *, bos: bool = True) -> None:
    """Llama's kind: ``▁`` for spaces, bytes as a fall-back, begin-of-sequence in front."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    _train(tokenizer, [], extra=[f"<0x{byte:02X}>" for byte in range(256)])
    _save(tokenizer, directory, bos=bos)


def normalising_tokenizer(directory: Path) -> None:
    """Qwen's kind: NFC normalisation in front of a byte-level vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, pre_tokenizers.ByteLevel.alphabet())
    _save(tokenizer, directory, bos=False)


def _train(tokenizer: Tokenizer, alphabet: list[str], extra: list[str] | None = None) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", *(extra or [])],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)


def _save(tokenizer: Tokenizer, directory: Path, *, bos: bool) -> None:
    if bos:
        from tokenizers import processors

        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)


COMMON: dict[str, Any] = {
    "vocab_size": 700,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
GROUPED = COMMON | {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0}

ARCHITECTURES: dict[str, Any] = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=700, n_positions=128, n_embd=32, n_layer=4, n_head=4
    ),
    "gptj": lambda: transformers.GPTJConfig(
        vocab_size=700, n_positions=128, n_embd=32, n_layer=4, n_head=4, rotary_dim=8
    ),
    "neox": lambda: transformers.GPTNeoXConfig(**COMMON),
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "mistral": lambda: transformers.MistralConfig(**GROUPED, sliding_window=None),
    "gemma2": lambda: transformers.Gemma2Config(**GROUPED, head_dim=8),
}


def save(name: str, directory: Path, *, seed: int = 0) -> Path:
    """Writes a tiny random model of architecture ``name`` with a fitting tokenizer."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(ARCHITECTURES[name]())
    with torch.no_grad():
        for parameter in model.parameters():
            # The libraries' initial weights are so small that every key is nearly zero.
            if parameter.dim() > 1:
                parameter.mul_(6.0)
            else:  # they begin as ones and zeros, which hide a weight or bias left out
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(directory)
    if name in ("llama", "mistral", "gemma2"):
        sentencepiece_like_tokenizer(directory)
    elif name == "qwen2":
        normalising_tokenizer(directory)
    else:
        byte_level_tokenizer(directory)
    return directory
