"""Corpus text as rows of tokens: what second moments are estimated on.

How long the rows are matters. Every row has one first token, so rows of T tokens give position 0
a share of 1/T of all keys; if these are nearly one vector, no first-token key can be longer than
√T in the C⁻¹ metric. Row length, share and begin-of-sequence convention are therefore recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from probes import bundled
from probes.model.loaded import LoadedModel

# Rows of models with very long contexts are cut here: a share of one token in a thousand is as
# rare as first tokens are in the text such models are used on.
LONGEST_ROW = 1024


@dataclass(frozen=True)
class Corpus:
    """Documents in order, with a name and a digest that say which.

    Attributes:
        name: What to call it in results.
        documents: The texts; what can be iterated over again and again.
        digest: SHA-256 over them.
    """

    name: str
    documents: Iterable[str]
    digest: str

    @classmethod
    def of(cls, name: str, documents: Iterable[str]) -> Corpus:
        """Collects documents and digests them."""
        texts = [text for text in documents if text.strip()]
        digest = hashlib.sha256()
        for text in texts:
            digest.update(text.encode("utf-8"))
            digest.update(b"\0")
        return cls(name, texts, digest.hexdigest())


def packaged() -> Corpus:
    """The text that comes with the toolkit: the bundled world's, in English."""
    return Corpus.of(bundled.CORPUS_NAME, bundled.corpus().splitlines())


def row_length(model: LoadedModel) -> int:
    """The longest row the model reads, at most :data:`LONGEST_ROW`."""
    return min(model.n_ctx, LONGEST_ROW)


def rows(model: LoadedModel, corpus: Corpus, *, length: int) -> Iterator[list[int]]:
    """Packs documents into rows of exactly ``length`` tokens.

    Every row begins where a document begins, as the reference's rows do, and is filled up with
    the documents that follow; what does not fit of the last one is dropped. A corpus shorter than
    one row is one row.

    Args:
        model: Tokenises, with its begin-of-sequence convention once a row.
        corpus: The documents.
        length: Tokens in a row.

    Yields:
        Token ids.
    """
    row: list[int] = []
    complete = False
    for text in corpus.documents:
        # The separator belongs to the later document, so that a row's first one is bare.
        row += model.tokens(text if not row else "\n" + text).ids[bool(row and model.bos) :]
        if len(row) >= length:
            yield row[:length]
            row, complete = [], True
    if row and not complete:
        yield row
