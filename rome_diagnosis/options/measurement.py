"""Options that say what is measured on an edited model, and on what."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import Any

from rome_diagnosis.defaults import GENERATED_TOKENS, PRECISION
from rome_diagnosis.limits import PERPLEXITY_COLLAPSE
from rome_diagnosis.options.values import UNSET, Options, count, positive


def add_measurement(parser: argparse.ArgumentParser, *, generated: bool = True) -> None:
    """Adds what is measured on an edited model, and on what.

    Args:
        parser: The parser.
        generated: Whether texts are generated too.
    """
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--texts",
        metavar="FILE",
        default=UNSET,
        help="texts for perplexity: JSON, CSV, Parquet, or text with blank lines between "
        "(default: bundled held-out texts)",
    )
    group.add_argument(
        "--max-texts",
        type=count,
        default=UNSET,
        help="measure exactly the first N texts (default: as many of 100 as settle the outcome)",
    )
    group.add_argument(
        "--precision",
        type=positive,
        default=PRECISION,
        help="relative half width of the perplexity ratio's 95%% interval at which texts suffice",
    )
    group.add_argument(
        "--facts",
        metavar="FILE",
        default=UNSET,
        help="facts whose recall is measured, in any format of --edits (default: the bundled "
        "world's for its own model, packaged common facts for others)",
    )
    if generated:
        group.add_argument(
            "--generated-tokens",
            type=count,
            default=GENERATED_TOKENS,
            help="length of the generated texts",
        )
    group.add_argument(
        "--collapse-ratio",
        type=positive,
        default=PERPLEXITY_COLLAPSE.value,
        help="perplexity ratio at and above which a model counts as collapsed",
    )


def add_tasks(to: Options, *, default: str = UNSET, limit: str = "limit") -> None:
    """Adds which tasks are run, on how many documents.

    Args:
        to: The parser.
        default: The tasks where none are named.
        limit: What the option for the number of documents is called.
    """
    to.add_argument(
        "--tasks",
        metavar="NAMES",
        default=default,
        help="bundled (over the bundled world), JSON Lines or YAML task files, directories of "
        "them, or names lm-evaluation-harness knows; commas between several",
    )
    to.add_argument(
        f"--{limit}",
        metavar="N",
        type=count,
        default=UNSET,
        help="ask only the first N documents of each task",
    )


def task_names(given: str) -> list[str]:
    """The tasks that ``--tasks`` names."""
    return [name for part in given.split(",") if (name := part.strip())] or [given]


def task_files(given: Mapping[str, Any]) -> list[str]:
    """The files and directories among the tasks that are asked, which no output may replace."""
    return [name for name in task_names(given.get("tasks", "")) if os.path.exists(name)]
