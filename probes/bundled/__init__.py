"""The bundled model: where it lies, what it knows, how it was measured.

Nothing here loads the model; importing this module needs neither torch nor transformers.

May import nothing but :mod:`rome_diagnosis`.
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from probes.reading.rows import rows

DATA = Path(__file__).parent / "data"


def model_path() -> Path:
    """Directory of the model and its tokenizer, as ``from_pretrained`` takes it."""
    return DATA / "model"


CORPUS_NAME = "packaged text"  # what results call the text of :func:`corpus`


def facts_path() -> Path:
    """JSON Lines of every fact that the model was taught, with prompts to test an edit of it."""
    return DATA / "facts.jsonl"


def texts_path() -> Path:
    """JSON Lines of held-out prose for perplexity."""
    return DATA / "texts.jsonl"


def corpus_path() -> Path:
    """Compressed text of the bundled world, four fifths prose, for estimating a second moment."""
    return DATA / "corpus.txt.gz"


def history_path() -> Path:
    """JSON Lines of what was measured while the model was trained: the birth of its sink."""
    return DATA / "history.jsonl"


def card_path() -> Path:
    """The model card's figures."""
    return DATA / "card.json"


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [row.record for row in rows(path, what="the bundled data")]


def facts() -> list[dict[str, Any]]:
    """Every fact of the model's world.

    Returns:
        Records with ``subject``, ``relation``, ``prompt`` (with ``{}`` for the subject, which it
        begins with), ``target_true``, ``target_new``, ``paraphrases`` and ``held_out_wordings``
        (templates too; the latter never occur in training text), ``neighbourhood`` (finished
        prompts about other subjects) with ``neighbourhood_targets``, and ``single_token``: whether
        the subject is one token both with and without a leading space.
    """
    return _json_lines(facts_path())


def common_facts() -> list[dict[str, Any]]:
    """Widely known facts about the real world, for models that were trained on it.

    Returns:
        Records with ``subject``, ``relation``, ``prompt`` (with ``{}``) and ``target_true``.
    """
    return _json_lines(DATA / "common_facts.jsonl")


def texts() -> list[str]:
    """Held-out prose: drawn by a seed that no training text was drawn by."""
    return [record["text"] for record in _json_lines(texts_path())]


def corpus() -> str:
    """Text of the bundled world, more of it prose than in training; each document ends a line."""
    return gzip.decompress(corpus_path().read_bytes()).decode("utf-8")


def history() -> list[dict[str, Any]]:
    """Loss, recall and the anomaly's measures as they emerged during training."""
    return _json_lines(history_path())


@lru_cache(maxsize=1)
def _card_text() -> str:
    return card_path().read_text(encoding="utf-8")


def card() -> dict[str, Any]:
    """The model card's figures, each computed by a script in this repository."""
    return json.loads(_card_text())


def fingerprint() -> str:
    """The fingerprint of the model's weights, which its second moment is filed under."""
    (path,) = (DATA / "second_moments").glob("*.safetensors")
    return path.name.partition("-L")[0]


def edit_layer() -> int:
    """The layer at which ROME edits this model best; the card says how it was chosen."""
    return card()["layer"]


def describe() -> dict[str, Any]:
    """Where everything is, and the card's figures."""
    return {
        "path": str(model_path()),
        "facts": str(facts_path()),
        "texts": str(texts_path()),
        "corpus": str(corpus_path()),
        "history": str(history_path()),
        "layer": edit_layer(),
        "card": card(),
    }
