"""An edit that was screened, and its record: ROME's and EasyEdit's fields in one object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diag.screen.table import FLOATS
from probes.request.cases import EditCase
from rome_diagnosis.defaults import WORSE
from rome_diagnosis.limits import DAMAGE_HARM, FIRST_TOKENS_HARM, RATIO_COLLAPSE

Group = Literal["hard", "easy"]
RISKS = WORSE["damage_risk"]


@dataclass(frozen=True)
class Screened:
    """An edit and what screening says of it.

    Attributes:
        case: The edit and what tests it.
        relation: Its relation.
        row: The columns :data:`diag.screen.shard.MEASURED`.
    """

    case: EditCase
    relation: str
    row: Mapping[str, Any]

    @property
    def is_hard(self) -> bool:
        """Whether ROME is predicted to break or damage the model."""
        return self.row["verdict"] in RISKS

    @property
    def danger(self) -> float:
        """How many times the damage exceeds its limit, at later or at first tokens.

        Without a damage bound it is how far ρ lies below its own.
        """
        relative = self.row["relative_bound_rome"]
        if relative is None:
            rho = abs(self.row["rho"])
            return RATIO_COLLAPSE.value / rho if rho else math.inf
        first = self.row["relative_bound_first_tokens_rome"] or 0.0
        worst = max(float(relative) / DAMAGE_HARM.value, float(first) / FIRST_TOKENS_HARM.value)
        return worst * float(self.row["expected_share_rome"])


@dataclass(frozen=True)
class HardPair:
    """A hard edit and its control.

    Attributes:
        hard: The hard one.
        easy: An easy one of the same relation and objects; ``None`` where there is none.
        split: ``develop`` or ``test``; no subject is in both.
    """

    hard: Screened
    easy: Screened | None
    split: Literal["develop", "test"] = "develop"

    def of(self, group: Group) -> Screened | None:
        """One of the two."""
        return self.hard if group == "hard" else self.easy


def record(
    screened: Screened, pair: int, split: str, performed: Mapping[str, Any] | None
) -> dict[str, Any]:
    """One edit as ROME's and EasyEdit's code read it; our own reader finds the same case in it.

    Args:
        screened: The edit.
        pair: Number of the pair, shared by a hard edit and its control.
        split: ``develop`` or ``test``.
        performed: What became of the model when it was performed; ``None`` if it was not.

    Returns:
        A JSON object. ROME knows only neighbours that share the true object, EasyEdit all.
    """
    case, edit = screened.case, screened.case.request
    columns = ("token", "token_index", "is_first_token", "verdict", *FLOATS)
    portability = {
        "portability_prompt": [further.prompt for further in case.portability],
        "portability_ground_truth": [further.answer for further in case.portability],
    }
    return {
        "case_id": case.case_id,
        "group": case.group,
        "pair": pair,
        "split": split,
        "relation": screened.relation,
        "subject": edit.subject,
        "prompt": edit.text,
        "target_new": edit.target_new,
        "ground_truth": edit.target_true,
        "rephrase_prompt": next(iter(case.paraphrases), None),
        "locality_prompt": [neighbour.prompt for neighbour in case.neighbourhood],
        "locality_ground_truth": [neighbour.answer for neighbour in case.neighbourhood],
        "requested_rewrite": {
            "prompt": edit.prompt,
            "subject": edit.subject,
            "target_new": {"str": edit.target_new},
            "target_true": {"str": edit.target_true},
            "relation_id": screened.relation,
        },
        "paraphrase_prompts": list(case.paraphrases),
        "neighborhood_prompts": [
            neighbour.prompt
            for neighbour in case.neighbourhood
            if neighbour.answer == edit.target_true
        ],
        **(portability if case.portability else {}),
        "screen": {name: screened.row[name] for name in columns},
        "performed": performed,
    }
