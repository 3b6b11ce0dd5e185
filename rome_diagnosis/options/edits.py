"""Options that say what is edited, and in which contexts: one fact, or a list."""

from __future__ import annotations

import argparse

from rome_diagnosis.defaults import N_PREFIXES
from rome_diagnosis.options.values import UNSET, Options, count, natural, seed


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


def add_edits(to: Options, help: str = argparse.SUPPRESS) -> None:
    """Adds ``--edits``, a file of edits; without help where the file stands by itself."""
    to.add_argument("--edits", metavar="FILE", default=UNSET, help=help)


def add_limit(to: Options, help: str = "process only the first N edits") -> None:
    """Adds ``--limit``."""
    to.add_argument("--limit", metavar="N", type=count, default=UNSET, help=help)


def add_perform(to: Options, help: str) -> None:
    """Adds ``--perform``, by which a forecast list or batch is made, too."""
    to.add_argument("--perform", action="store_true", default=UNSET, help=help)
