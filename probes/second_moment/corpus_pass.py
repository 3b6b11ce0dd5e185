"""One pass over a corpus for the second moments of several layers, resumable and shared.

The rows of the corpus are cut into chunks. Each process takes every n-th of them and now and then
writes its sums to a checkpoint. Chunks, batches and draws follow from the settings alone, so that a
run that was killed and resumed ends with the same numbers as one that was not, and two processes
differ from one only by the order of their sums.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from probes.model.loaded import LoadedModel
from probes.ranks import Ranks
from probes.second_moment.stored import seal
from probes.second_moment.sums import Accumulator, feed, token_shapes
from probes.text import corpus
from rome_diagnosis.disk import files, journal
from rome_diagnosis.errors import UserError

PIECE_TOKENS = 8192  # after which an interrupted pass can resume
SCHEMA = "moment_checkpoint/3"


@dataclass(frozen=True)
class Pass:
    """What is summed over, and how.

    Attributes:
        model: The model.
        layers: The blocks.
        text: The corpus.
        row_length: Tokens in a row.
        max_tokens: Stop after the row that reaches this many tokens; ``None`` reads all.
        seed: Seed of the samples kept beside the moments.
        checkpoint: A folder for the sums of an interrupted run; ``None`` keeps none.
        every: Seconds between checkpoints.
        halves: Whether to keep sums over every other chunk too.
    """

    model: LoadedModel
    layers: Sequence[int]
    text: corpus.Corpus
    row_length: int
    max_tokens: int | None = None
    seed: int = 0
    checkpoint: Path | None = None
    every: float = 60.0
    halves: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the sums depend on."""
        return {
            "schema": SCHEMA,
            "model": self.model.fingerprint,
            "bos": self.model.bos,
            "dtype": self.model.arithmetic,
            "layers": list(self.layers),
            "text": self.text.digest,
            "row_length": self.row_length,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "halves": self.halves,
        }

    def chunks(self) -> Iterator[tuple[int, list[list[int]]]]:
        """Numbered pieces of the corpus, of :data:`PIECE_TOKENS`."""
        size = max(1, PIECE_TOKENS // self.row_length)
        number, n_tokens = 0, 0
        chunk: list[list[int]] = []
        for row in corpus.rows(self.model, self.text, length=self.row_length):
            chunk.append(row)
            n_tokens += len(row)
            enough = self.max_tokens is not None and n_tokens >= self.max_tokens
            if len(chunk) == size or enough:
                yield number, chunk
                number, chunk = number + 1, []
            if enough:
                return
        if chunk:
            yield number, chunk


def pass_over(
    job: Pass, ranks: Ranks | None = None, *, progress: Callable[[int], None] | None = None
) -> dict[int, Accumulator]:
    """Sums over the corpus, resuming an earlier run that was interrupted.

    Args:
        job: The pass.
        ranks: The processes that share the work.
        progress: Called with numbers of tokens that are done, those of an earlier run first.

    Returns:
        The sums of all processes, by layer. The checkpoint stays: see :func:`forget`.

    Raises:
        UserError: If there is no such layer, no text, or the checkpoint cannot be used.
    """
    ranks = ranks or Ranks()
    for layer in job.layers:
        job.model.check_layer(layer)
    shapes = token_shapes(job.model)
    sums = {layer: Accumulator.empty(shapes, job.seed, halves=job.halves) for layer in job.layers}
    done = _restore(job, ranks, sums)
    some = next(iter(sums.values()))
    if progress and some.n_tokens:
        progress(some.n_tokens)
    written = time.monotonic()
    last = done
    for number, rows in job.chunks():
        if number < done or not ranks.mine(number):
            continue
        for accumulator in sums.values():
            accumulator.draw_by(_draw(job.seed, number))
        feed(
            job.model, sums, rows, batch_tokens=PIECE_TOKENS, in_half=number % 2 == 0,
            progress=progress,
        )  # fmt: skip
        last = number + 1
        if job.checkpoint is not None and time.monotonic() - written >= job.every:
            _write(job, ranks, sums, last)
            written = time.monotonic()
    if job.checkpoint is not None and last > done:
        _write(job, ranks, sums, last)
    gathered = {layer: accumulator.gathered(ranks) for layer, accumulator in sums.items()}
    if not gathered[job.layers[0]].n_tokens:
        raise UserError(f"the corpus {job.text.name} holds no text to estimate from")
    return gathered


def forget(job: Pass) -> None:
    """Removes the checkpoint: the results have gone to their final place."""
    if job.checkpoint is not None:
        shutil.rmtree(job.checkpoint, ignore_errors=True)


def _draw(seed: int, number: int) -> int:
    """A seed for one chunk, far from its neighbours'."""
    digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def _file(job: Pass, ranks: Ranks) -> Path:
    assert job.checkpoint is not None
    return job.checkpoint / f"{ranks.rank + 1}-of-{ranks.size}.safetensors"


def _write(job: Pass, ranks: Ranks, sums: dict[int, Accumulator], chunk: int) -> None:
    """Writes a checkpoint, completely or not at all."""
    path = _file(job, ranks)
    tensors: dict[str, Tensor] = {}
    values: dict[int, Any] = {}
    for layer, accumulator in sums.items():
        parts, values[layer] = accumulator.state()
        tensors |= {f"{layer}.{name}": tensor for name, tensor in parts.items()}
    header = journal.identity({"settings": job.settings, "chunk": chunk, "values": values})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {path}: {error.strerror}") from error
    with files.atomic(path) as part:
        sealed = json.dumps(header | {"seal": seal(header, tensors)})
        save_file(tensors, part, metadata={"checkpoint": sealed})


def _restore(job: Pass, ranks: Ranks, sums: dict[int, Accumulator]) -> int:
    """Puts a checkpoint back.

    Returns:
        Number of the chunk to continue with.
    """
    if job.checkpoint is None:
        return 0
    path = _file(job, ranks)
    others = [
        other
        for other in sorted(job.checkpoint.glob("*-of-*.safetensors"))
        if not other.name.endswith(f"-of-{ranks.size}.safetensors")
    ]
    if others:
        raise UserError(
            f"{job.checkpoint} was written by another number of processes "
            f"({others[0].stem.replace('-', ' ')}): start as many again, or remove it"
        )
    if not path.exists():
        return 0
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["checkpoint"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["seal"] != seal(header, tensors):
            raise ValueError("it was changed after it was written")
        journal.check_same_run(dict(header["settings"]), job.settings, job.checkpoint)
        for layer, accumulator in sums.items():
            mark = f"{layer}."
            own = {name[len(mark) :]: t for name, t in tensors.items() if name.startswith(mark)}
            accumulator.restore(own, header["values"][str(layer)])
        return int(header["chunk"])
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise UserError(f"the checkpoint {path} is damaged ({error}): remove it") from error
