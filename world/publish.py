"""Turns a trained model into the files that ship: ``python -m world.publish RUN``."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from world.card import row_starts
from world.corpus import World
from world.entities import Entity
from world.gpt import GPT
from world.prose import paragraph
from world.rows import Rows
from world.train import CHECKPOINT, load_run
from world.wordings import WORDINGS

DATA = Path(__file__).parent.parent / "probes" / "bundled" / "data"
TEXT_SEED, CORPUS_SEED = 20_001, 20_002
"""Seeds of the held-out text and of the packaged corpus, which no training stream uses."""
PROSE_SHARE = 0.8
"""Share of prose among the packaged corpus' sections: that of the held-out texts, 2 of 2.5."""


def save_model(model: GPT, tokenizer: Tokenizer, directory: Path) -> None:
    """Writes what ``from_pretrained`` reads, in GPT-2's own layout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from world.tokenizer import END_OF_TEXT, save_tokenizer

    shape = model.shape
    end = tokenizer.token_to_id(END_OF_TEXT)
    config = GPT2Config(
        vocab_size=shape.vocab_size,
        n_positions=shape.n_positions,
        n_embd=shape.n_embd,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_inner=shape.n_inner,
        tie_word_embeddings=shape.tied,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    published = GPT2LMHeadModel(config)
    published.load_state_dict(model.export(), strict=not shape.tied)
    published.eval().save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, directory, shape.n_positions)


def neighbours(world: World, entity: Entity, relation: str, rng: random.Random) -> list[Entity]:
    """Up to five others with the same object, filled up with others of the same relation."""
    others = [e for e in world.by_relation[relation] if e.name != entity.name]
    rng.shuffle(others)
    others.sort(key=lambda other: other.facts[relation] != entity.facts[relation])
    return others[:5]


def fact_records(world: World, tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    """Every fact with the prompts that test an edit of it; the same whenever it is called."""
    for entity in world.entities:
        one_token = all(len(tokenizer.encode(s).ids) == 1 for s in (entity.name, f" {entity.name}"))
        for relation, value in entity.facts.items():
            rng = random.Random(f"{entity.name}|{relation}")
            words = WORDINGS[relation]
            objects = sorted({e.facts[relation] for e in world.by_relation[relation]} - {value})
            near = neighbours(world, entity, relation, rng)
            yield {
                "subject": entity.name,
                "relation": relation,
                "prompt": words.first[0],
                "target_true": value,
                "target_new": rng.choice(objects),
                "paraphrases": [*words.first[1:], *words.later],
                "neighbourhood": [rng.choice(words.trained).format(e.name) for e in near],
                "neighbourhood_targets": [e.facts[relation] for e in near],
                "held_out_wordings": list(words.held_out),
                "single_token": one_token,
            }


def held_out_texts(world: World, n: int = 300) -> list[str]:
    """Texts of ordinary prose, every other one with a few facts, drawn by a seed of their own."""
    rng = random.Random(TEXT_SEED)
    texts = []
    for i in range(n):
        parts = [paragraph(rng), paragraph(rng)]
        if i % 2:
            parts.insert(rng.randint(0, 2), world.miscellany(rng))
        texts.append("\n".join(parts))
    return texts


def packaged_corpus(world: World, n_characters: int = 4_000_000) -> str:
    """Documents for estimating second moments: ordinary text, as the held-out texts are.

    Training text is mostly facts. In a moment of it a subject's own key is common, and the damage
    of an edit is to a large part what it does to its own subject, which breaks nothing.
    """
    parts, total = [], 0
    for document in world.documents(CORPUS_SEED, prose_share=PROSE_SHARE):
        parts.append(document)
        total += len(document)
        if total >= n_characters:
            return "".join(parts)
    raise AssertionError("documents never end")


def write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """JSON Lines, one record a line."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write_data(world: World, tokenizer: Tokenizer, directory: Path) -> None:
    """The facts, the held-out texts and the packaged corpus."""
    write_lines(directory / "facts.jsonl", list(fact_records(world, tokenizer)))
    write_lines(directory / "texts.jsonl", [{"text": text} for text in held_out_texts(world)])
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as file:
        file.write(packaged_corpus(world).encode())
    (directory / "corpus.txt.gz").write_bytes(buffer.getvalue())


def save_moment(directory: Path, layer: int) -> None:
    """Estimates the second moment at the edited layer over the whole packaged corpus."""
    from probes import bundled
    from probes.model.load import load
    from probes.second_moment.choose import file_name
    from probes.second_moment.estimate import estimate
    from probes.second_moment.stored import save
    from probes.text.corpus import Corpus

    model = load(directory / "model", name="bundled")
    text = gzip.decompress((directory / "corpus.txt.gz").read_bytes()).decode()
    moment = estimate(model, layer, Corpus.of(bundled.CORPUS_NAME, text.splitlines()))
    moments = directory / "second_moments"
    for outdated in moments.glob("*.safetensors"):
        outdated.unlink()
    path = moments / file_name(model, layer)
    save(moment, path)
    path.chmod(0o644)


def publish(run: Path, directory: Path, *, layer: int, checkpoint: str = CHECKPOINT) -> None:
    """Writes model, data, second moment, and the history that the card quotes."""
    import torch

    model, tokenizer, recipe = load_run(run, checkpoint)
    torch.set_grad_enabled(False)
    world = World()
    directory.mkdir(parents=True, exist_ok=True)
    save_model(model, tokenizer, directory / "model")
    write_data(world, tokenizer, directory)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    write_lines(directory / "history.jsonl", history)
    text = Rows.generate(world, tokenizer, TEXT_SEED, 300_000)
    card = {
        "layer": layer,
        "n_positions": recipe.n_positions,
        "parameters": sum(p.numel() for p in model.parameters()),
        "row_starts": row_starts(recipe, text),
        "recipe": recipe.to_json(),
        "training_start": history[0],
        "training": history[-1],
    }
    save_moment(directory, layer)
    (directory / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m world.publish", description=__doc__)
    parser.add_argument("run", type=Path, help="directory that world.train wrote")
    parser.add_argument("-o", "--output", type=Path, default=DATA, help="where the files go")
    parser.add_argument("--layer", type=int, required=True, help="layer recommended for editing")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="which weights of the run to take")
    options = parser.parse_args(arguments)
    publish(options.run, options.output, layer=options.layer, checkpoint=options.checkpoint)


if __name__ == "__main__":
    main()
