"""``diag.apply/1``: edits that were made to stay, and what became of the saved model."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.arms import AskedFact, Locality, PerplexityChange, ShareChange
from rome_diagnosis.schema.parts.shared import (
    Head,
    Limits,
    Model,
    Request,
    SecondMoment,
    Site,
    Verdict,
)
from rome_diagnosis.schema.parts.values import Name, Number, Positive, Size
from rome_diagnosis.schema.verify import Outcome


class AnsweredBoth(TypedDict):
    """The edited fact, asked both ways after all edits were made.

    Attributes:
        bare: By the bare prompt.
        prefixed: By the prompt after the document's ``prefix``.
    """

    bare: AskedFact
    prefixed: AskedFact


class Continuation(TypedDict):
    """What the model writes after a prompt, greedily.

    Attributes:
        before: The unedited model.
        after: The edited one.
    """

    before: str
    after: str


class WrittenBoth(TypedDict):
    """What the model writes after the edited prompt.

    Attributes:
        bare: After the bare prompt.
        prefixed: After the prompt with the document's ``prefix`` before it.
    """

    bare: Continuation
    prefixed: Continuation


class AppliedEdit(TypedDict):
    """One edit as it was made.

    Attributes:
        request: The fact.
        editor: What it was made with.
        verdict: What the diagnosis said of that editor.
        relative_bound: The editor's damage bound in units of hidden states' norm; null where it
            could not be checked.
        bare: Share of the change that the bare prompt receives; null where it is not defined.
        needs_prefix: Whether the model answers only when some text precedes the prompt.
        target_warning: Why what was written is not what was optimised; null where it is.
        after: What the saved model answers; of a long list the first edits alone are asked.
        locality: What became of neighbouring facts; null if the record has none.
        says: What the model writes; of a long list the first edits alone are asked.
    """

    request: Request
    editor: Name
    verdict: Verdict
    relative_bound: Size | None
    bare: Number | None
    needs_prefix: bool
    target_warning: NotRequired[str | None]
    after: NotRequired[AnsweredBoth]
    locality: NotRequired[Locality | None]
    says: NotRequired[WrittenBoth]


class ApplyDocument(Head):
    """Edits that were made, in order, and the model that was saved with them.

    Attributes:
        schema: ``diag.apply/1``.
        model: The model before.
        site: Where it was edited.
        second_moment: What it was edited with.
        weight: Name of the changed matrix.
        relative_norm: ‖ΔW‖ / ‖W‖ of all edits together.
        original_digest: Digest of the matrix before.
        edited_digest: Digest of the matrix after.
        edits: Each edit.
        perplexity: Perplexity of the text set before and after the edits.
        recall: Facts the unedited model gives, asked again; null if it gives none.
        limits: The limits the verdicts rest on.
        collapse_ratio: From this ratio of perplexities on a model counts as collapsed.
        outcome: What became of the model.
        outcome_reasons: What decided the outcome.
        prefix: The prefix of the prefixed prompts.
    """

    schema: Literal["diag.apply/1"]
    model: Model
    site: Site
    second_moment: SecondMoment
    weight: str
    relative_norm: Size
    original_digest: str
    edited_digest: str
    edits: list[AppliedEdit]
    perplexity: PerplexityChange
    recall: ShareChange | None
    limits: NotRequired[Limits]
    collapse_ratio: NotRequired[Positive]
    outcome: Outcome
    outcome_reasons: list[str]
    prefix: str
