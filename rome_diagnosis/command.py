"""What every command shares: options, one-line errors, and outputs written whole or not at all.

Exit codes: 0 done, 1 done and ``--fail-on`` met, 2 the user's mistake, 130 interrupted. Imports
of torch happen inside functions, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from probes.model.loaded import LoadedModel
    from probes.second_moment.moment import SecondMoment

DISTRIBUTION = "rome-diagnosis"
# What options that take a file or a folder call it.
FILES = {"FILE", "DIR", "SOURCE", "DATASET"}


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, and that takes no empty file name."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See :class:`argparse.ArgumentParser`; an empty path would be read as the folder here."""
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            given = getattr(found, action.dest, None)
            named = FILES.intersection(str(action.metavar).split("|"))
            if named and "" in (given if isinstance(given, list) else [given]):
                self.error(f"{'/'.join(action.option_strings) or action.metavar} is empty")
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Exits with code 2 after one line."""
        self.exit(2, f"error: {message} (see python -m {self.prog} --help)\n")


def parser(prog: str, description: str) -> Parser:
    """Makes a parser.

    Args:
        prog: The module's name, e.g. ``diag.keys``.
        description: What the command tells.

    Returns:
        The parser, without options.
    """
    return Parser(
        prog=prog, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )


def add_model_options(to: argparse.ArgumentParser) -> None:
    """Adds the options that choose a model, a layer and a second moment."""
    group = to.add_argument_group("model")
    group.add_argument(
        "--model", metavar="NAME_OR_DIR", default="bundled",
        help="a directory in Hugging Face layout, a hub name, or the small model that comes along",
    )  # fmt: skip
    group.add_argument(
        "--layer", type=int, default=argparse.SUPPRESS,
        help="the edited block (default: the one published work edits, else one third up)",
    )  # fmt: skip
    group.add_argument(
        "--bos", action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS,
        help="put a begin-of-sequence token in front (default: as the plain tokenizer does)",
    )  # fmt: skip
    group.add_argument(
        "--second-moment", metavar="FILE|identity|auto", default="auto",
        help="auto: shipped or cached, else estimated from packaged text",
    )  # fmt: skip
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 …")
    group.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16", "float64"), default="float32",
        help="type of the weights",
    )  # fmt: skip
    group.add_argument(
        "--trust-remote-code", action="store_true", default=argparse.SUPPRESS,
        help="let code that comes with a model run",
    )  # fmt: skip


def add_request_options(to: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Adds the options that say which fact is edited, and in which contexts."""
    group = to.add_argument_group("edit")
    group.add_argument(
        "--subject", required=required, default=argparse.SUPPRESS, help="e.g. 'Apple'"
    )
    group.add_argument(
        "--prompt", default=argparse.SUPPRESS,
        help="with {} for the subject, or with the subject in it once (default: a known fact's "
        "prompt, else '{} is')",
    )  # fmt: skip
    group.add_argument("--target-new", default=argparse.SUPPRESS, help="what the edit should say")
    group.add_argument("--target-true", default=argparse.SUPPRESS, help="what the model says now")
    group.add_argument(
        "--prefix", metavar="TEXT", action="append", default=argparse.SUPPRESS,
        help="a context to put in front of the prompt; repeat it (default: sampled)",
    )  # fmt: skip
    group.add_argument("--n-prefixes", type=int, default=20, help="how many contexts to sample")
    group.add_argument("--seed", type=int, default=0, help="of the sampled contexts")


def add_output_options(to: argparse.ArgumentParser) -> None:
    """Adds the options that say where results go."""
    group = to.add_argument_group("output")
    unset = argparse.SUPPRESS
    group.add_argument("--json", metavar="FILE|-", default=unset, help="the result as JSON")
    group.add_argument("--html", metavar="FILE", default=unset, help="the result as a page")
    group.add_argument("--quiet", action="store_true", default=unset, help="print no text")


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Runs a command as a program.

    Args:
        main: Takes arguments, returns an exit code, raises :class:`UserError` for mistakes.
    """
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What the libraries define lives as long as the program, and searching all of it for garbage
    # takes a third of a second: that is done a hundred times less often than by default (10).
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1000)
    try:
        code = main(None)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader (head, less) has gone: what it read is all it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Threads that torch.distributed leaves behind can abort the interpreter's shutdown, long
        # after everything is written.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def load_model(options: argparse.Namespace) -> tuple[LoadedModel, int]:
    """Loads the chosen model and settles the layer.

    Args:
        options: Parsed options of :func:`add_model_options`.

    Returns:
        The model and the edited block.

    Raises:
        UserError: If there is no such model or layer.
    """
    from probes import bundled
    from probes.model.load import load

    is_bundled = options.model == "bundled"
    model = load(
        bundled.model_path() if is_bundled else options.model,
        name=options.model,
        device=options.device,
        dtype=options.dtype,
        bos=getattr(options, "bos", None),
        trust_remote_code=getattr(options, "trust_remote_code", False),
    )
    layer = getattr(options, "layer", None)
    if layer is None:
        layer = bundled.edit_layer() if is_bundled else model.default_layer()
    model.check_layer(layer)
    return model, layer


def find_second_moment(
    model: LoadedModel, layer: int, choice: str, *, quiet: bool = False
) -> SecondMoment:
    """Finds the second moment, with a warning and a progress bar where one has to be estimated.

    Args:
        model: The model.
        layer: The edited block.
        choice: A file, ``identity`` or ``auto``.
        quiet: Leave warning and bar out.

    Returns:
        The second moment.

    Raises:
        UserError: If the file cannot be read or belongs to another model.
    """
    from probes.second_moment.estimate import for_model

    if quiet:
        return for_model(model, layer, choice)
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:

        def start(n_tokens: int) -> Callable[[int], None]:
            bar = stack.enter_context(Progress(console=console, transient=True))
            task = bar.add_task("second moment", total=n_tokens)
            return lambda done: bar.advance(task, done)

        return for_model(
            model,
            layer,
            choice,
            notice=lambda line: console.print(f"[yellow]note:[/] {line}", highlight=False),
            progress=start,
        )


def check_writable(*paths: str | None) -> None:
    """Refuses outputs that cannot be written, before any work is done.

    Args:
        paths: Files to be; ``None`` and ``-`` are skipped.

    Raises:
        UserError: Naming the first that cannot.
    """
    for path in paths:
        if path is None or path == "-":
            continue
        target = Path(path)
        folder = target.parent
        if not path.strip() or target.is_dir():
            raise UserError(f"cannot write {path!r}: it is not a file name")
        if not folder.is_dir():
            raise UserError(f"cannot write {path}: there is no directory {folder}")
        if target.exists() and not os.access(target, os.W_OK):
            raise UserError(f"cannot write {path}: permission denied")
        try:
            # Asking the file system is the only answer that counts for root, quotas and mounts.
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Writes a file whole or not at all.

    Args:
        path: The file.

    Yields:
        A name beside it to write to; renamed when the block ends well, removed otherwise.

    Raises:
        UserError: If it cannot be written.
    """
    path = Path(path)
    part = None
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}", suffix=".part")
        os.close(handle)
        yield Path(part)
        # mkstemp makes files that only their owner reads; results are ordinary files.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if part and os.path.exists(part):
            os.unlink(part)


def write_text(path: str, text: str) -> None:
    """Writes text to a file, whole or not at all, or to standard output for ``-``."""
    if path == "-":
        sys.stdout.write(text)
        return
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def dumps(document: Any) -> str:
    """JSON as this project writes it: readable, stable, without NaN."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def package_version() -> str:
    """This toolkit's version."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0+unknown"
