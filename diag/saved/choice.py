"""The editor that makes an edit, and what the diagnosis says of it."""

from __future__ import annotations

from dataclasses import dataclass

from diag.judgement.verdict import Verdict


@dataclass(frozen=True)
class Choice:
    """An editor for one edit.

    Attributes:
        editor: Its name.
        verdict: What the diagnosis says of it.
        relative_bound: Its damage bound in units of hidden states' norm; ``None`` where it could
            not be checked.
        bare: Share of the change that the bare prompt receives; ``None`` where it is not defined.
        needs_prefix: Whether it answers only when some text precedes the prompt.
        target_warning: Why what it writes is not what was optimised; ``None`` where it is.
    """

    editor: str
    verdict: Verdict
    relative_bound: float | None
    bare: float | None
    needs_prefix: bool
    target_warning: str | None = None
