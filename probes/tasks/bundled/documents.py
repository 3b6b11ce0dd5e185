"""The documents of the bundled world's tasks; the task files beside this module name them."""

from __future__ import annotations

import random
import re
from typing import Any

from probes import bundled

N_DOCUMENTS = 200  # a score is then known to three points
N_CHOICES = 4
_SENTENCE = re.compile(r"[^.?!\n]+ ([A-Za-z]+)[.?!]")


def choices(**_: Any) -> dict[str, Any]:
    """Facts with the objects of three other facts of their relation, in random order."""
    draw, facts = random.Random(0), bundled.facts()
    documents = []
    for fact in draw.sample(facts, N_DOCUMENTS):
        true, relation = fact["target_true"], fact["relation"]
        others = sorted({other["target_true"] for other in facts if other["relation"] == relation})
        others.remove(true)
        listed = [true, *draw.sample(others, min(N_CHOICES - 1, len(others)))]
        draw.shuffle(listed)
        text = fact["prompt"].format(fact["subject"])
        documents.append({"text": text, "choices": listed, "gold": listed.index(true)})
    return _dataset(documents)


def cloze(**_: Any) -> dict[str, Any]:
    """Facts in wordings that no training text had."""
    facts = random.Random(1).sample(bundled.facts(), N_DOCUMENTS)
    return _dataset(
        [
            {
                "text": wordings[i % len(wordings)].format(fact["subject"]),
                "end": " " + fact["target_true"],
            }
            for i, fact in enumerate(facts)
            if (wordings := fact["held_out_wordings"])
        ]
    )


def last_words(**_: Any) -> dict[str, Any]:
    """Held-out prose up to the last word of a sentence, a word that occurs earlier too."""
    documents = []
    for text in bundled.texts():
        for sentence in reversed(list(_SENTENCE.finditer(text))):
            context, word = text[: sentence.start(1)].rstrip(), sentence[1]
            if word in context.split():
                documents.append({"text": context, "end": " " + word})
                break
    return _dataset(documents[:N_DOCUMENTS])


def _dataset(documents: list[dict[str, Any]]) -> dict[str, Any]:
    from datasets import Dataset

    return {"test": Dataset.from_list(documents)}
