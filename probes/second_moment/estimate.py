"""The second moment of one layer's keys over a corpus, from one pass over the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch

from probes.forward import activations
from probes.forward.batches import batches
from probes.model.loaded import LoadedModel
from probes.second_moment import corpus_pass
from probes.second_moment.moment import Provenance, SecondMoment, of_moment
from probes.second_moment.sample import Sample
from probes.second_moment.sums import (
    SAMPLED_FIRST,
    Accumulator,
    Progress,
    token_parts,
    token_shapes,
)
from probes.text import corpus
from rome_diagnosis.errors import UserError

# Documents among which first tokens are looked for.
DOCUMENTS = 4096


def estimate(
    model: LoadedModel,
    layer: int,
    text: corpus.Corpus,
    *,
    max_tokens: int | None = None,
    row_length: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> SecondMoment:
    """Estimates the second moment of one layer's keys over a corpus.

    Args:
        model: The model.
        layer: The block.
        text: The corpus.
        max_tokens: Stop after the row that reaches this many tokens; ``None`` reads all.
        row_length: Tokens in a row; by default as many as the model reads, at most 1,024.
        seed: Seed of the samples kept beside the moment.
        progress: Called with the number of tokens of each batch when it is done.

    Returns:
        The second moment, with its provenance and background.

    Raises:
        UserError: If the layer does not exist or the corpus holds no text.
    """
    ((_, moment),) = estimate_layers(
        model, [layer], text,
        max_tokens=max_tokens, row_length=row_length, seed=seed, progress=progress,
    )  # fmt: skip
    return moment


def estimate_layers(
    model: LoadedModel,
    layers: Sequence[int],
    text: corpus.Corpus,
    *,
    max_tokens: int | None = None,
    row_length: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[tuple[int, SecondMoment]]:
    """Estimates those of several layers in one pass over the corpus.

    Args:
        model: The model.
        layers: The blocks, whose matrices must fit into memory together
            (:func:`probes.second_moment.cost.groups`).
        text: The corpus.
        max_tokens: As :func:`estimate`.
        row_length: As :func:`estimate`.
        seed: As :func:`estimate`.
        progress: As :func:`estimate`.

    Yields:
        Each layer and its second moment.

    Raises:
        UserError: As :func:`estimate`.
    """
    length = row_length or corpus.row_length(model)
    job = corpus_pass.Pass(model, layers, text, length, max_tokens, seed)
    sums = corpus_pass.pass_over(job, progress=progress)
    for layer in layers:
        yield layer, of_sums(sums.pop(layer), model, layer, text, row_length=length)


def of_sums(
    sums: Accumulator, model: LoadedModel, layer: int, text: corpus.Corpus, *, row_length: int
) -> SecondMoment:
    """The second moment that sums over a corpus give.

    Args:
        sums: The sums; Σ k kᵀ is used up.
        model: The model.
        layer: The block.
        text: The corpus.
        row_length: Tokens in a row.

    Returns:
        The second moment, with its provenance and background.

    Raises:
        UserError: If nothing was summed.
    """
    if not sums.n_tokens:
        raise UserError(f"the corpus {text.name} holds no text to estimate a second moment from")
    mean = sums.take_mean()
    if len(sums.first) < SAMPLED_FIRST and not model.bos:
        # Long rows are few, and every one has a single first token.
        more = _first_tokens(model, layer, text)
        sums = replace(sums, first=max(sums.first, more, key=len))
    return of_moment(
        mean,
        source="estimated",
        provenance=Provenance(
            model=model.name,
            fingerprint=model.fingerprint,
            layer=layer,
            bos=model.bos,
            corpus=text.name,
            corpus_digest=text.digest,
            n_tokens=sums.n_tokens,
            row_length=row_length,
            position0_share=sums.n_first / sums.n_tokens,
            dtype=model.computed_in,
        ),
        background=sums.background(),
        fourth=sums.fourth / sums.n_tokens,
    )


def _first_tokens(model: LoadedModel, layer: int, text: corpus.Corpus) -> Sample:
    """First tokens of documents: what is computed at a first token depends on no other."""
    documents = list(islice(text.documents, DOCUMENTS))
    chosen = documents[:: max(1, -(-len(documents) // SAMPLED_FIRST))]
    rows = [model.tokens(document).ids[:1] for document in chosen]
    read = activations.reader(model, [layer])
    first = Sample(SAMPLED_FIRST, torch.Generator().manual_seed(0), token_shapes(model))
    for batch in batches(rows, model):
        tokens = token_parts(read(batch)[layer])
        first.add({name: part[:, 0] for name, part in tokens.items()})
    return first
