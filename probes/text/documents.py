"""Corpus text from wherever a user has it, read as it is needed and never held whole."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from probes.text.corpus import Corpus
from rome_diagnosis.errors import UserError

HUB = "hf:"


@dataclass(frozen=True)
class Documents:
    """The documents of several sources; every iteration reads them anew.

    Attributes:
        sources: Files, directories of a saved Hugging Face data set, or
            ``hf:name[:config][:split]``.
        field: The field of a record that holds its text.
    """

    sources: tuple[str, ...]
    field: str = "text"

    def __iter__(self) -> Iterator[str]:
        for source in self.sources:
            for text in self._of(source):
                if text.strip():
                    yield text

    def _of(self, source: str) -> Iterator[str]:
        if source.startswith(HUB):
            return self._records(_hub(source.removeprefix(HUB)), source)
        path = Path(source)
        if path.is_dir():
            return self._records(_saved(path), source)
        name = path.name.removesuffix(".gz")
        if name.endswith((".jsonl", ".ndjson")):
            return self._records(_json_lines(path), source)
        if name.endswith(".json"):
            return self._records(_json(path), source)
        return _plain(path)

    def _records(self, records: Iterator[Any], source: str) -> Iterator[str]:
        for i, record in enumerate(records):
            text = record if isinstance(record, str) else None
            if isinstance(record, dict):
                text = record.get(self.field)
            if not isinstance(text, str):
                raise UserError(
                    f"record {i} of {source} has no text under {self.field!r}: name its field with "
                    "--text-field"
                )
            yield text


def read(
    sources: Sequence[str], *, field: str = "text", progress: Callable[[int], None] | None = None
) -> Corpus:
    """Reads text through once, for its digest and its length.

    Args:
        sources: See :class:`Documents`.
        field: See there.
        progress: Called with the number of characters of each document.

    Returns:
        The corpus; its documents are read again whenever they are needed.

    Raises:
        UserError: If a source cannot be read, or there is no text.
    """
    documents = Documents(tuple(sources), field)
    digest = hashlib.sha256()
    empty = True
    for text in documents:
        empty = False
        digest.update(text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
        if progress:
            progress(len(text))
    name = ", ".join(source if source.startswith(HUB) else Path(source).name for source in sources)
    if empty:
        raise UserError(f"the corpus {name} holds no text")
    return Corpus(name, documents, digest.hexdigest())


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def _reading(path: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UserError(f"cannot read the corpus {path}: {reason}")


def _plain(path: Path) -> Iterator[str]:
    """Documents with blank lines between them."""
    try:
        with _open(path) as file:
            lines: list[str] = []
            for line in file:
                if line.strip():
                    lines.append(line)
                elif lines:
                    yield "".join(lines).rstrip("\n")
                    lines = []
            if lines:
                yield "".join(lines).rstrip("\n")
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise _reading(path, error) from error


def _json_lines(path: Path) -> Iterator[Any]:
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise UserError(f"line {number} of {path} is not JSON: {error}") from error
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise _reading(path, error) from error


def _json(path: Path) -> Iterator[Any]:
    try:
        with _open(path) as file:
            records = json.load(file)
    except (OSError, ValueError, EOFError) as error:
        raise _reading(path, error) from error
    if not isinstance(records, list):
        raise UserError(f"{path} is no JSON array of texts or records")
    yield from records


def _datasets() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            "Hugging Face data sets need the package datasets: pip install datasets"
        ) from error
    return datasets


def _saved(path: Path) -> Iterator[Any]:
    """A data set written by ``save_to_disk``."""
    library = _datasets()
    try:
        found = library.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds
        raise _reading(path, error) from error
    if isinstance(found, dict):
        names = ", ".join(found)
        raise UserError(
            f"{path} holds several splits ({names}): name one, {path}/{next(iter(found))}"
        )
    yield from found


def _hub(name: str) -> Iterator[Any]:
    """A data set of the hub or the local cache, streamed."""
    library = _datasets()
    parts = name.split(":")
    split = parts[-1] if len(parts) > 1 else "train"
    config = parts[1] if len(parts) > 2 else None
    try:
        found = library.load_dataset(parts[0], config, split=split, streaming=True)
    except Exception as error:
        raise UserError(f"cannot read the data set {name}: {error}") from error
    yield from found
