"""The model's own byte-level BPE, in which most subjects are one token.

A subject can only be the *first token* if its spelling without a leading space is a single token,
and only be compared with itself later in a prompt if the spelling with one is too.  BPE merges what
is frequent, so besides ordinary documents the trainer sees a list in which every one-word subject
stands at the start of a line and after a space; that list is the only thing that is weighted.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from world.corpus import World

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(world: World, vocab_size: int, seed: int, n_documents: int = 3000) -> Tokenizer:
    """Trains the tokenizer on documents and on the weighted list of names."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    names = [f"{e.name}\n {e.name}" for e in world.entities if " " not in e.name]
    objects = {f" {value}" for e in world.entities for value in e.facts.values()}
    text = list(islice(world.documents(seed), n_documents)) + names * 400 + sorted(objects) * 60
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path, n_positions: int) -> None:
    """Saves what ``AutoTokenizer`` needs; it adds no begin-of-sequence token."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=n_positions,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(directory)
