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
    """Llama's kind: ``▁`` for spaces, bytes as a fall-back, begin-of-sequence first."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    _train(tokenizer, [], extra=[f"<0x{byte:02X}>" for byte in range(256)])
    _save(tokenizer, directory, bos=bos)


def normalising_tokenizer(directory: Path) -> None:
    """Qwen's kind: NFC normalisation before a byte-level vocabulary."""
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
GPT: dict[str, Any] = {
    "vocab_size": 700,
    "n_positions": 128,
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
}

# Those that tests of single modules run on: every kind of block that their code distinguishes.
ARCHITECTURES: dict[str, Any] = {
    "gpt2": lambda: transformers.GPT2Config(**GPT),
    "gptj": lambda: transformers.GPTJConfig(**GPT, rotary_dim=8),
    "neox": lambda: transformers.GPTNeoXConfig(**COMMON),
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "mistral": lambda: transformers.MistralConfig(**GROUPED, sliding_window=None),
    "gemma2": lambda: transformers.Gemma2Config(**GROUPED, head_dim=8),
}

# A matrix of all architectures is computed with three blocks and keys of 40 numbers, so that C
# has full rank over a few rows of text.
SMALL: dict[str, Any] = {
    "vocab_size": 700,
    "hidden_size": 16,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
}
SMALL_GPT: dict[str, Any] = {
    "vocab_size": 700,
    "n_positions": 128,
    "n_embd": 16,
    "n_inner": 40,
    "n_layer": 3,
    "n_head": 2,
}
_IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
SHARED = SMALL | _IDS | {"num_key_value_heads": 1}
HEADED = SHARED | {"head_dim": 8}
OPT: dict[str, Any] = {
    "vocab_size": 700,
    "hidden_size": 16,
    "ffn_dim": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 128,
}
FALCON = {name: value for name, value in SMALL.items() if name != "intermediate_size"} | {
    "ffn_hidden_size": 40
}
WINDOW = 24  # tokens that blocks with local attention see, fewer than some texts have

# TransformerLens runs these as Hugging Face does.
SUPPORTED: dict[str, Any] = {
    "apertus": lambda: transformers.ApertusConfig(**SHARED, rope_parameters=_rope()),
    "arcee": lambda: transformers.ArceeConfig(**SHARED),
    "bloom": lambda: transformers.BloomConfig(vocab_size=700, hidden_size=16, n_layer=3, n_head=2),
    "bloom-post": lambda: transformers.BloomConfig(
        vocab_size=700,
        hidden_size=16,
        n_layer=3,
        n_head=2,
        apply_residual_connection_post_layernorm=True,
    ),
    "codegen": lambda: transformers.CodeGenConfig(**(SMALL_GPT | {"n_head": 4}), rotary_dim=4),
    "cohere": lambda: transformers.CohereConfig(**SHARED, logit_scale=0.25),
    "cohere2": lambda: transformers.Cohere2Config(
        **SHARED, logit_scale=0.25, sliding_window=WINDOW
    ),
    "ernie4_5": lambda: transformers.Ernie4_5Config(**HEADED),
    "exaone4": lambda: transformers.Exaone4Config(**SHARED, sliding_window=WINDOW),
    "falcon": lambda: transformers.FalconConfig(**FALCON),
    "gemma": lambda: transformers.GemmaConfig(**HEADED),
    "gemma2-window": lambda: transformers.Gemma2Config(**HEADED, sliding_window=WINDOW),
    "gemma3": lambda: transformers.Gemma3TextConfig(**HEADED, sliding_window=WINDOW),
    "gemma3-multimodal": lambda: transformers.Gemma3Config(
        text_config=HEADED | {"sliding_window": WINDOW},
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
    ),
    "gemma4": lambda: transformers.Gemma4TextConfig(
        **HEADED,
        sliding_window=WINDOW,
        hidden_size_per_layer_input=0,
        num_kv_shared_layers=0,
        global_head_dim=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "glm": lambda: transformers.GlmConfig(**HEADED),
    "glm4": lambda: transformers.Glm4Config(**HEADED),
    "gpt-bigcode": lambda: transformers.GPTBigCodeConfig(**SMALL_GPT),
    "gpt-neo": lambda: transformers.GPTNeoConfig(
        vocab_size=700,
        max_position_embeddings=128,
        hidden_size=16,
        intermediate_size=40,
        num_layers=4,
        num_heads=2,
        attention_types=[[["global", "local"], 2]],
        window_size=8,
    ),
    "gpt2-small": lambda: transformers.GPT2Config(**SMALL_GPT),
    "gptj-small": lambda: transformers.GPTJConfig(**SMALL_GPT, rotary_dim=4),
    "granite": lambda: transformers.GraniteConfig(
        **SHARED,
        residual_multiplier=0.22,
        embedding_multiplier=6.0,
        logits_scaling=4.0,
        attention_multiplier=0.2,
    ),
    "hunyuan": lambda: transformers.HunYuanDenseV1Config(**HEADED),
    "jais2": lambda: transformers.Jais2Config(**HEADED),
    "llama-small": lambda: transformers.LlamaConfig(**SHARED),
    "llama-bias": lambda: transformers.LlamaConfig(**SHARED, mlp_bias=True, attention_bias=True),
    "ministral3": lambda: transformers.Ministral3Config(**SHARED),
    "mistral-window": lambda: transformers.MistralConfig(**SHARED, sliding_window=WINDOW),
    "modernbert-decoder": lambda: transformers.ModernBertDecoderConfig(
        **SMALL, **_IDS, cls_token_id=0, sep_token_id=0, local_attention=2 * WINDOW
    ),
    "mpt": lambda: transformers.MptConfig(
        vocab_size=700, d_model=16, n_layers=3, n_heads=2, max_seq_len=128
    ),
    "nanochat": lambda: transformers.NanoChatConfig(**SHARED),
    "nemotron": lambda: transformers.NemotronConfig(**SHARED),
    "neox-sequential": lambda: transformers.GPTNeoXConfig(**SMALL, use_parallel_residual=False),
    "neox-small": lambda: transformers.GPTNeoXConfig(**SMALL),
    "olmo": lambda: transformers.OlmoConfig(**SHARED),
    "olmo2": lambda: transformers.Olmo2Config(**SHARED),
    "olmo3": lambda: transformers.Olmo3Config(**SHARED, sliding_window=WINDOW),
    "opt": lambda: transformers.OPTConfig(**OPT, word_embed_proj_dim=16),
    "opt-post": lambda: transformers.OPTConfig(
        **OPT, do_layer_norm_before=False, word_embed_proj_dim=8
    ),
    "phi": lambda: transformers.PhiConfig(**SMALL, partial_rotary_factor=0.5),
    "phi3": lambda: transformers.Phi3Config(**SHARED, sliding_window=WINDOW),
    "qwen2-small": lambda: transformers.Qwen2Config(**SHARED),
    "qwen3": lambda: transformers.Qwen3Config(**HEADED),
    "seed-oss": lambda: transformers.SeedOssConfig(**HEADED),
    "smollm3": lambda: transformers.SmolLM3Config(**SHARED),
    "stablelm": lambda: transformers.StableLmConfig(**SHARED),
    "stablelm-parallel": lambda: transformers.StableLmConfig(**SHARED, use_parallel_residual=True),
    "starcoder2": lambda: transformers.Starcoder2Config(**SHARED, sliding_window=WINDOW),
    "vaultgemma": lambda: transformers.VaultGemmaConfig(**HEADED, sliding_window=WINDOW),
    "xglm": lambda: transformers.XGLMConfig(
        vocab_size=700,
        d_model=16,
        ffn_dim=40,
        num_layers=3,
        attention_heads=2,
        max_position_embeddings=128,
    ),
}

# These are refused; the words of the refusal stand in tests/matrix/test_refused.py.
REFUSED: dict[str, Any] = {
    "biogpt": lambda: transformers.BioGptConfig(**SMALL),
    "falcon-alibi": lambda: transformers.FalconConfig(
        **FALCON, alibi=True, parallel_attn=False, multi_query=False, bias=True
    ),
    "falcon-grouped": lambda: transformers.FalconConfig(
        **(FALCON | {"num_attention_heads": 4, "hidden_size": 32}),
        num_kv_heads=2,
        new_decoder_architecture=True,
    ),
    "lfm2": lambda: transformers.Lfm2Config(
        **SHARED, layer_types=["conv", "full_attention", "conv"], block_auto_adjust_ff_dim=False
    ),
    "mamba": lambda: transformers.MambaConfig(vocab_size=700, hidden_size=16, num_hidden_layers=3),
    "mixtral": lambda: transformers.MixtralConfig(**SHARED, num_local_experts=4),
    "openai-gpt": lambda: transformers.OpenAIGPTConfig(
        **{name: value for name, value in SMALL_GPT.items() if name != "n_inner"}
    ),
    "recurrent-gemma": lambda: transformers.RecurrentGemmaConfig(
        **SHARED, attention_window_size=WINDOW
    ),
}
_PREPENDS_BOS = ("llama", "mistral", "gemma", "phi3", "smollm3")
_NORMALISES = ("qwen",)


def save(name: str, directory: Path, *, seed: int = 0) -> Path:
    """Writes a tiny random model of architecture ``name`` with a fitting tokenizer."""
    torch.manual_seed(seed)
    config = (ARCHITECTURES | SUPPORTED | REFUSED)[name]()
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # The libraries' initial weights are so small that every key is nearly zero.
            if parameter.dim() > 1:
                parameter.mul_(6.0)
            else:  # they begin as ones and zeros, which hide a weight or bias left out
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(directory)
    if name.startswith(_PREPENDS_BOS):
        sentencepiece_like_tokenizer(directory)
    elif name.startswith(_NORMALISES):
        normalising_tokenizer(directory)
    else:
        byte_level_tokenizer(directory)
    return directory


def _rope() -> dict[str, Any]:
    """Apertus' kind of rotary embedding, for so short a context."""
    return {
        "rope_type": "llama3",
        "rope_theta": 10_000.0,
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
