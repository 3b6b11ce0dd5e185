"""The library call: ``from diag.surrogate import surrogate``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diag.surrogate.result import Surrogate


def surrogate(*results: Mapping[str, Any] | str | os.PathLike[str], seed: int = 0) -> Surrogate:
    """Holds perplexity and closed-form damage of performed edits against downstream tasks.

    Args:
        *results: Files or documents of ``diag.verify`` and ``diag.sequence``, measured with
            ``tasks``.
        seed: Seed of the bootstrap.

    Returns:
        How they go together, and where perplexity is silent.

    Raises:
        UserError: If a result cannot be read, was not asked tasks, or was asked others.
    """
    from diag.surrogate import run
    from reports.document import read_document
    from rome_diagnosis.schema import validate

    documents = [
        read_document(os.fspath(result))
        if isinstance(result, str | os.PathLike)
        else validate(result)
        for result in results
    ]
    return run.hold(documents, seed=seed)
