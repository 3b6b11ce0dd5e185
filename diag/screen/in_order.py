"""What would come of a data set's edits if they were made one after another, in its order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diag.screen.run import ScreenPlan
    from probes.setup import Setup


def forecast_in_order(plan: ScreenPlan, setup: Setup) -> dict[str, Any]:
    """Forecasts the data set as a list, with what was loaded to screen it.

    Args:
        plan: The screening.
        setup: What it was made with.

    Returns:
        The ``in_order`` of a ``diag.screen/1`` document; see :mod:`diag.sequence`.

    Raises:
        UserError: If not one edit can be made.
    """
    from diag.sequence.api import sequence

    (screener,) = plan.screeners
    here = dataclasses.replace(
        setup, model=screener.shared.model, second_moment=screener.moment,
        prefixes=list(screener.shared.prefixes) if setup.prefixes is None else setup.prefixes,
        quiet=True,
    )  # fmt: skip
    listed = sequence(
        plan.scan.path,
        hyperparameters=screener.hyperparameters,
        **here.options(),
    ).document
    reaches = {
        name: {key: value for key, value in reach.items() if key != "curve"}
        for name, reach in listed["editors"].items()
    }
    return {
        "edits": len(listed["edits"]),
        "editors": reaches,
        "advice": listed["advice"],
        "not_checked": listed["forecast"]["not_checked"],
    }
