"""Outputs: checked before any work is done, written completely or not at all, never over an input.

Only regular files are replaced. A symbolic link is followed; a device or a pipe is written to and
stays what it is.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    import filelock

StrPath = str | os.PathLike[str]
STANDARD_OUTPUT = "-"
# Suffixes that promise a format.
FORMATS = (
    ".bin .csv .feather .gguf .htm .html .json .jsonl .md .npy .npz .parquet .pdf .pkl .png .pt "
    ".pth .safetensors .svg .tsv .txt .xlsx .xml .yaml .yml"
)
ALIASES = {".htm": ".html"}


def check_outputs(outputs: Iterable[StrPath | None], inputs: Iterable[StrPath | None] = ()) -> None:
    """Refuses outputs that cannot be written or would replace a file that is needed.

    Args:
        outputs: Files to be written; ``None`` and ``-`` are skipped.
        inputs: Files and directories that are read, or names that may be one; ``None`` is skipped.

    Raises:
        UserError: Naming the first output that cannot be written, is an input or one of the files
            in an input directory, or is given twice.
    """
    read = [path for path in inputs if path is not None and _status(path) is not None]
    written: list[StrPath] = []
    for path in outputs:
        if path is None or path == STANDARD_OUTPUT:
            continue
        _check_writable(path)
        if is_stream(path):
            continue
        for other in read:
            if same_file(path, other) or _is_in(path, other):
                raise UserError(f"cannot write {path}: it is read as an input (as {other})")
        for other in written:
            if same_file(path, other):
                raise UserError(f"two outputs go to one file: {other} and {path}")
        written.append(path)


def check_format(path: StrPath | None, suffix: str) -> None:
    """Refuses a name that promises another format than the one that would be written.

    Args:
        path: The file to be; a name without a known suffix promises nothing.
        suffix: The format's own; ``""`` where any is right.

    Raises:
        UserError: If the name ends in the suffix of another format.
    """
    if path is None or not suffix:
        return
    promised = Path(os.fspath(path).lower().removesuffix(".gz")).suffix
    if promised in FORMATS.split() and ALIASES.get(promised, promised) != suffix:
        raise UserError(f"cannot write {path}: what goes there is {suffix}, not {promised}")


def same_file(one: StrPath, other: StrPath) -> bool:
    """Whether two names mean one file, through links of either kind; neither need exist."""
    with contextlib.suppress(OSError):
        if os.path.samefile(one, other):
            return True
    return os.path.realpath(one) == os.path.realpath(other)


def is_stream(path: StrPath) -> bool:
    """Whether a name stands for a device, a pipe or a socket, which must not be replaced."""
    status = _status(path)
    if status is None:
        return False
    # /dev/stdout may lead to a regular file, but one that is already open.
    return str(path).startswith(("/dev/", "/proc/self/fd/")) or not stat.S_ISREG(status.st_mode)


@contextlib.contextmanager
def atomic(path: StrPath) -> Iterator[Path]:
    """Writes a file completely or not at all.

    Args:
        path: The file. A symbolic link is followed; a device or pipe gets the bytes once they are
            complete.

    Yields:
        A temporary name to write to. When the block ends well, its content is on the disk under
        ``path``, with ordinary permissions; otherwise nothing has changed.

    Raises:
        UserError: If it cannot be written.
    """
    stream = is_stream(path)
    # A link's own name would be replaced by os.replace; its target's is what is meant.
    target = Path(path if stream else os.path.realpath(path))
    part = None
    try:
        handle, part = tempfile.mkstemp(
            dir=None if stream else target.parent, prefix=f".{target.name[:80]}", suffix=".part"
        )
        os.close(handle)
        yield Path(part)
        if stream:
            with open(part, "rb") as written, open(target, "wb") as file:
                while chunk := written.read(1 << 20):
                    file.write(chunk)
        else:
            os.chmod(part, 0o666 & ~_umask())  # mkstemp's files are for their owner alone
            sync(part)
            os.replace(part, target)
    except BrokenPipeError:
        raise  # the reader of a pipe has gone, which is no mistake
    except Exception as error:
        # safetensors reports a full disk with an exception of its own.
        if not _of_disk(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}") from error
    finally:
        if part and os.path.exists(part):
            os.unlink(part)


def write_text(path: StrPath, text: str) -> None:
    """Writes text as UTF-8 to a file, completely or not at all, or to standard output for ``-``.

    Args:
        path: The file; a name that ends in ``.gz`` is compressed.
        text: The text.

    Raises:
        UserError: If it cannot be written.
    """
    if path != STANDARD_OUTPUT:
        content = text.encode("utf-8")
        with atomic(path) as part:
            # Without a time in it, so that equal documents are equal files.
            packed = os.fspath(path).endswith(".gz")
            part.write_bytes(gzip.compress(content, mtime=0) if packed else content)
        return
    raw = getattr(sys.stdout, "buffer", None)
    if raw is None:  # a notebook's stream takes text alone
        sys.stdout.write(text)
        return
    # A document is UTF-8 whatever the terminal's encoding is.
    sys.stdout.flush()
    raw.write(text.encode("utf-8"))
    raw.flush()


def expanded(path: StrPath) -> Path:
    """A path with ``~`` and ``~user`` replaced by the home directory.

    Raises:
        UserError: If there is no such user, or no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"there is no home directory for {path}") from error


def check_new_folder(path: StrPath) -> None:
    """Refuses a folder that cannot be created, or that is not empty.

    Args:
        path: The folder to be.

    Raises:
        UserError: If it is not empty, or cannot be created.
    """
    target = expanded(path)
    try:
        if target.is_dir() and not any(target.iterdir()):
            _check_writable(target / "x")
        elif os.path.lexists(target):
            raise UserError(f"{target} exists already: name a directory that does not")
        else:
            _check_writable(target)
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot write {target}: {error}") from error


@contextlib.contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Writes a folder completely or not at all.

    Args:
        path: The folder; must not exist, or be empty.

    Yields:
        A folder beside it to write into, renamed when the block ends well and removed otherwise.

    Raises:
        UserError: If it exists or cannot be written.
    """
    check_new_folder(path)
    target = expanded(path).resolve()
    aside = None
    try:
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:80]}."))
        yield aside
        for part in aside.rglob("*"):  # libraries write some for their owner alone
            part.chmod((0o777 if part.is_dir() else 0o666) & ~_umask())
        aside.chmod(0o777 & ~_umask())
        os.replace(aside, target)
    except Exception as error:
        if not _of_disk(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {target}: {reason}") from error
    finally:
        if aside is not None and aside.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _of_disk(error: Exception) -> bool:
    """Whether a file could not be written; safetensors says so by an error of its own."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"


def sync(path: StrPath) -> None:
    """Brings a file's content to the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def locked(*paths: StrPath | None) -> Iterator[None]:
    """Keeps other processes of this toolkit away from outputs while a block runs.

    Nested calls of one process may name the same output. Of processes that share one job (under
    ``torchrun``) the first holds the lock for all. Where the file system knows no locks, none is
    taken.

    Args:
        paths: The outputs; ``None``, ``-``, devices and pipes are skipped.

    Raises:
        UserError: If another process holds one of them.
    """
    is_first = os.environ.get("RANK", "0") == "0"
    with contextlib.ExitStack() as stack:
        for path in paths if is_first else ():
            if path is not None and path != STANDARD_OUTPUT and not is_stream(path):
                stack.enter_context(_lock(path))
        yield


@contextlib.contextmanager
def _lock(path: StrPath) -> Iterator[None]:
    import filelock

    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():  # the library would make it
        raise UserError(f"cannot write {path}: there is no directory {target.parent}")
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(
            f"another process is writing {path}: wait for it, or name another output"
        ) from error
    except (OSError, NotImplementedError):
        yield  # no locks here; whether the file can be written is asked elsewhere
        return
    try:
        yield
    finally:
        _release(lock)


def _release(lock: filelock.BaseFileLock) -> None:
    """Releases a lock and, with the last release of this process, removes its file."""
    if lock.lock_counter == 1:
        # While it is held: whoever takes the lock next sees that this file is gone and makes one.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
    lock.release()


def _check_writable(path: StrPath) -> None:
    name = os.fspath(path)
    if not name.strip() or name.endswith(os.sep) or "\0" in name:
        raise UserError(f"cannot write {name!r}: it is not a file name")
    target = Path(os.path.realpath(path))
    try:
        status = None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = os.stat(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            raise UserError(f"cannot write {name!r}: it is a directory")
        if status is not None and not os.access(path, os.W_OK):
            raise UserError(f"cannot write {name}: permission denied")
        if is_stream(path):
            return
        if not target.parent.is_dir():
            raise UserError(f"cannot write {name}: there is no directory {target.parent}")
        # Asking the file system is the only answer that counts for root, quotas and mounts.
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise UserError(f"cannot write {name}: {error.strerror or error}") from error


def _is_in(path: StrPath, folder: StrPath) -> bool:
    """Whether an existing file lies directly in a directory."""
    parent = os.path.dirname(os.path.realpath(path))
    return os.path.isdir(folder) and os.path.exists(path) and same_file(parent, folder)


def _status(path: StrPath) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
