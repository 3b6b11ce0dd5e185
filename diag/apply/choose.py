"""Which editor to make an edit with: the first in the table that the diagnosis calls safe."""

from __future__ import annotations

from diag.keys.judge import Judgement
from diag.saved.choice import Choice
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import RESPONSE_FAINT

AUTO = "auto"


def options(judgement: Judgement) -> list[Choice]:
    """What every editor would do, in the order of the table.

    Args:
        judgement: The diagnosis of the edit.

    Returns:
        A choice for each.
    """
    choices = []
    warned = {
        finding.id: finding.message for finding in judgement.findings if finding.status == "warn"
    }
    for name in EDITORS:
        response = judgement.responses[name]
        bare = None if response is None else response.bare
        choices.append(
            Choice(
                name,
                judgement.verdicts[name],
                judgement.damage[name].relative_bound,
                bare,
                bare is not None and bare < RESPONSE_FAINT.value,
                warned.get(f"target_{name}"),
            )
        )
    return choices


def choose_editor(judgement: Judgement, method: str = AUTO) -> Choice:
    """Chooses an editor, or refuses.

    Args:
        judgement: The diagnosis of the edit.
        method: An editor's name, or ``"auto"`` for the first one that is safe.

    Returns:
        The choice.

    Raises:
        UserError: If there is no such editor, or the one asked for, or every one, is not safe.
    """
    if method != AUTO and method not in EDITORS:
        raise UserError(f"there is no editor {method!r}: known are auto, {', '.join(EDITORS)}")
    choices = options(judgement)
    if method != AUTO:
        choices = [choice for choice in choices if choice.editor == method]
    safe = [choice for choice in choices if choice.verdict == "safe"]
    if safe:
        return safe[0]
    reasons = ", ".join(
        f"{EDITORS[choice.editor].short} {choice.verdict.replace('_', ' ')}" for choice in choices
    )
    raise UserError(f"the edit is not made, because no way to make it is safe: {reasons}")
