"""What every screening's document says of its data set, contexts and work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.screen.scan import Scan
from probes.keys.many_edits import SharedPrefixes
from probes.target_value.method_file import MethodFile

if TYPE_CHECKING:
    import pandas

ERRORS_LISTED = 100


def dataset(scan: Scan) -> dict[str, Any]:
    """The data set."""
    return {"name": Path(scan.path).name, "digest": scan.digest, "notes": list(scan.notes)}


def contexts(shared: SharedPrefixes, seed: int | None) -> dict[str, Any]:
    """The contexts of every edit.

    Args:
        shared: The contexts.
        seed: What they were sampled with; ``None`` where they were given.

    Returns:
        The ``contexts`` of a document.
    """
    return {
        "seed": seed,
        "sampled": seed is not None,
        "n": len(shared.prefixes),
        "prefixes": shared.prefixes,
    }


def method(of: MethodFile) -> dict[str, Any]:
    """A method, and what it is tuned with."""
    parameters = {**of.row.parameters, **of.parameters}
    clamp = of.target.clamp_norm_factor
    return {"name": of.method, "parameters": parameters, "clamp_factor": clamp}


def figures(measured: int) -> Any:
    """Rows this process measured, and its peak memory in bytes."""
    import resource

    import torch

    # Linux counts kibibytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return torch.tensor([measured, peak], dtype=torch.int64)


def work(figures: Sequence[Any], n_rows: int, seconds: float) -> dict[str, Any]:
    """How the work was done.

    Args:
        figures: What :func:`figures` returned in every process.
        n_rows: Rows of the data set.
        seconds: Time it took.

    Returns:
        The ``run`` of a document.
    """
    measured = sum(int(row[0]) for row in figures)
    return {
        "processes": len(figures),
        "seconds": seconds,
        "measured": measured,
        "resumed": n_rows - measured,
        "requests_per_second": measured / seconds,
        "peak_memory": [int(row[1]) for row in figures],
    }


def refused(table: pandas.DataFrame) -> dict[str, Any]:
    """The rows of a table of several blocks that are no edits, or have no key at some of them.

    Args:
        table: The table.

    Returns:
        Their number, and the first of them each with its blocks and what is wrong.
    """
    failed = table[table["error"].notna()]
    blocks: dict[tuple[int, str], list[int]] = {}
    for row, error, layer in failed[["row", "error", "layer"]].itertuples(index=False):
        blocks.setdefault((row, error), []).append(layer)
    listed = [{"row": at, "layers": of, "error": error} for (at, error), of in blocks.items()]
    return {"errors": listed[:ERRORS_LISTED], "n_errors": len({row for row, _ in blocks})}
