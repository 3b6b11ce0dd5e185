"""The one reader of texts: documents from wherever a user has them, read as they are needed.

Corpora for second moments and texts for perplexity are both read here, so that neither counts a
byte-order mark, a final newline or a JSON file's brackets as text.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from probes.reading.rows import container, rows
from probes.text.corpus import Corpus
from rome_diagnosis.errors import UserError
from rome_diagnosis.source import LARGEST_RECORD, opened

HUB = "hf:"
FIELDS = ("text", "Text")  # ME-PPL writes Text
WHAT = "the text"


@dataclass(frozen=True)
class Documents:
    """The documents of several sources; every iteration reads them anew.

    Attributes:
        sources: Files, directories of a saved Hugging Face data set, or
            ``hf:name[:config][:split]``. A file is plain text with blank lines between documents,
            or rows in any container of :func:`probes.reading.rows.rows`; each may be gzipped.
        field: The field of a record that holds its text; ``None`` takes ``text`` or ``Text``.
    """

    sources: tuple[str, ...]
    field: str | None = None

    def __iter__(self) -> Iterator[str]:
        """Reads the documents that are not blank.

        Yields:
            The documents.

        Raises:
            UserError: If a source cannot be read, or a record has no text.
        """
        for source in self.sources:
            for place, text in self._of(source):
                if not text.strip():
                    continue
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError as error:
                    raise UserError(f"{place} of {source} is not valid Unicode") from error
                yield text

    @property
    def _fields(self) -> tuple[str, ...]:
        return FIELDS if self.field is None else (self.field,)

    def _of(self, source: str) -> Iterator[tuple[str, str]]:
        """The place and the text of each document."""
        if source.startswith(HUB):
            return self._records(_hub(source.removeprefix(HUB)), source)
        if os.path.isdir(source):
            return self._records(_saved(Path(source)), source)
        needed = (self._fields,)
        if container(source, what=WHAT, needed=needed) == "other":
            return _plain(source)
        return self._rows(source, needed)

    def _rows(self, source: str, needed: tuple[tuple[str, ...], ...]) -> Iterator[tuple[str, str]]:
        for row in rows(source, what=WHAT, needed=needed):
            if row.error is not None:
                raise UserError(f"{row.place} of {source} {row.error}")
            yield row.place, self._text(row.record, row.place, source)

    def _records(self, records: Iterator[Any], source: str) -> Iterator[tuple[str, str]]:
        for i, record in enumerate(records):
            yield f"record {i}", self._text(record, f"record {i}", source)

    def _text(self, record: Any, place: str, source: str) -> str:
        text = record
        if isinstance(record, Mapping):
            text = next((record[name] for name in self._fields if name in record), None)
        if not isinstance(text, str):
            raise UserError(
                f"{place} of {source} has no text under {' or '.join(map(repr, self._fields))}: "
                "name the field that holds it (--text-field)"
            )
        return text


def read_documents(
    sources: Sequence[str],
    *,
    field: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Corpus:
    """Reads a corpus through once, for its digest and its length.

    Args:
        sources: See :class:`Documents`.
        field: See :class:`Documents`.
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
        digest.update(text.encode("utf-8"))
        digest.update(b"\0")
        if progress:
            progress(len(text))
    name = ", ".join(source if source.startswith(HUB) else Path(source).name for source in sources)
    if empty:
        raise UserError(f"the corpus {name} has no text in it")
    return Corpus(name, documents, digest.hexdigest())


def read_texts(path: str | os.PathLike[str], *, limit: int | None = None) -> list[str]:
    """Reads a set of texts into memory.

    Args:
        path: A source of :class:`Documents`, e.g. ME-PPL's JSON.
        limit: Read only the first N texts.

    Returns:
        The texts, in order.

    Raises:
        UserError: If they cannot be read, or there are none.
    """
    texts = list(itertools.islice(Documents((os.fspath(path),)), limit))
    if not texts:
        raise UserError(f"{path} has no text in it")
    return texts


def _plain(path: str) -> Iterator[tuple[str, str]]:
    """Documents with blank lines between them."""
    with opened(path, WHAT) as file:
        first, size, lines = 1, 0, list[str]()
        for number, line in enumerate(_lines(file), 1):
            if not line.strip():
                if lines:
                    yield f"line {first}", "".join(lines).rstrip("\n")
                first, size, lines = number + 1, 0, []
                continue
            lines.append(line)
            size += len(line)
            if size > LARGEST_RECORD:
                raise UserError(
                    f"the document at line {first} of {path} is longer than "
                    f"{LARGEST_RECORD >> 20} Mi characters: put blank lines between documents"
                )
        if lines:
            yield f"line {first}", "".join(lines).rstrip("\n")


def _lines(file: IO[bytes]) -> Iterator[str]:
    text = io.TextIOWrapper(file, "utf-8-sig")
    while line := text.readline(LARGEST_RECORD + 1):
        yield line


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
        data = library.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds
        raise UserError(f"cannot read {WHAT} {path}: {_one_line(error)}") from error
    if isinstance(data, dict):
        names = ", ".join(data)
        raise UserError(
            f"{path} holds several splits ({names}): name one, {path}/{next(iter(data))}"
        )
    yield from data


def _hub(name: str) -> Iterator[Any]:
    """A data set of the hub or the local cache, streamed."""
    library = _datasets()
    parts = name.split(":")
    split = parts[-1] if len(parts) > 1 else "train"
    config = parts[1] if len(parts) > 2 else None
    try:
        data = library.load_dataset(parts[0], config, split=split, streaming=True)
    except Exception as error:
        raise UserError(f"cannot read the data set {name}: {_one_line(error)}") from error
    yield from data


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
