"""``diag.screen/1``: the pre-flight check over a data set: a table, and a summary of it."""

from typing import Annotated, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.shared import (
    Contexts,
    Dataset,
    Head,
    Limits,
    Model,
    SecondMoment,
    Site,
    Verdict,
)
from rome_diagnosis.schema.parts.values import (
    Cosine,
    Count,
    Either,
    Name,
    Number,
    Positive,
    Prompt,
    Share,
    Size,
)
from rome_diagnosis.schema.sequence import ListReach


class ScreenedRow(TypedDict):
    """A row of the table that was screened.

    Attributes:
        row: Its place in the data set, from 0.
        case_id: The record's own identifier; null if it has none.
        subject: The subject.
        prompt: The prompt, ``{}`` for the subject.
        token: The subject's last token in the bare prompt.
        token_index: Its index.
        is_first_token: Whether no other token of the text precedes it.
        d_rome: k̄ᵀC⁻¹k_u, signed.
        d_c_rome: k̄ᵀC⁻¹k̄.
        d_p_rome: k_uᵀC⁻¹k_u.
        rho: ρ = ``d_rome`` / ``d_c_rome``.
        length_ratio: ‖k_u‖ / ‖k̄‖ in the C⁻¹ metric.
        whitened_cosine: Cosine of k_u and k̄ in the C⁻¹ metric.
        bound_rome: Upper bound of ROME's damage, in units of the MLP's output; null without a
            corpus moment or where D is 0.
        bound_c_rome: The same of C-ROME.
        relative_bound_rome: ROME's bound for the residual stream, in units of its median norm;
            null where it could not be checked.
        relative_bound_first_tokens_rome: The same over the first tokens of texts.
        expected_share_rome: The share of ROME's bounds that is expected; null without any.
        verdict: On ROME as published.
        error: Null.
    """

    row: Count
    case_id: str | None
    subject: str
    prompt: Prompt
    token: str
    token_index: Count
    is_first_token: bool
    d_rome: Number
    d_c_rome: Number
    d_p_rome: Number
    rho: Number
    length_ratio: Size | None
    whitened_cosine: Cosine | None
    bound_rome: Size | None
    bound_c_rome: Size | None
    relative_bound_rome: Size | None
    relative_bound_first_tokens_rome: NotRequired[Size | None]
    expected_share_rome: NotRequired[Share | None]
    verdict: Verdict
    error: None


class RefusedRow(TypedDict):
    """A row of the table that is no edit, or could not be measured; its other columns are null.

    Attributes:
        row: Its place in the data set, from 0.
        error: Why not.
    """

    row: Count
    error: str


# The table's columns, in its order, and those that tables of every version have.
COLUMNS: tuple[str, ...] = tuple(ScreenedRow.__annotations__)
NEEDED: frozenset[str] = ScreenedRow.__required_keys__
Row = Annotated[ScreenedRow | RefusedRow, Either("error")]


class VerdictCounts(TypedDict, closed=True):
    """How often each verdict came.

    Attributes:
        collapse_risk: Rows with this verdict.
        damage_risk: Rows with this verdict.
        unclear: Rows with this verdict.
        safe: Rows with this verdict.
    """

    collapse_risk: Count
    damage_risk: NotRequired[Count]
    unclear: Count
    safe: Count


class ByPosition(TypedDict):
    """Verdicts by where the subject's last token stands.

    Attributes:
        first: How often each verdict came where it is the first token.
        later: How often each came elsewhere.
    """

    first: VerdictCounts
    later: VerdictCounts


class Quantiles(TypedDict):
    """How ρ and the bound are distributed.

    Attributes:
        at: The quantiles' levels, from 0 to 1.
        rho: Quantiles of ρ; null where there is no value.
        relative_bound_rome: Quantiles of ROME's relative bound; null where there is no value.
    """

    at: list[Number]
    rho: list[Number] | None
    relative_bound_rome: list[Number] | None


class ScreenSummary(TypedDict):
    """Counts over the table.

    Attributes:
        n: Number of rows.
        screened: Number of rows with a verdict.
        errors: Number of rows without.
        verdicts: How often each verdict came.
        by_position: The same by where the subject's last token stands.
        quantiles: How ρ and the bound are distributed.
    """

    n: Count
    screened: Count
    errors: Count
    verdicts: VerdictCounts
    by_position: ByPosition
    quantiles: Quantiles


class ScreenRun(TypedDict):
    """How the work was done.

    Attributes:
        processes: Number of processes.
        seconds: Time they took.
        measured: Number of rows this run measured.
        resumed: Number of rows an interrupted run had measured.
        requests_per_second: ``measured`` / ``seconds``.
        peak_memory: Peak memory of each process, in bytes.
    """

    processes: Count
    seconds: Positive
    measured: Count
    resumed: Count
    requests_per_second: Size
    peak_memory: Annotated[list[Count], Len(1)]


class InOrder(TypedDict):
    """What would come of the edits, made one after another in the data set's order.

    Attributes:
        edits: How many of them can be made.
        editors: How far the list gets with each editor.
        advice: What to do, in sentences.
        not_checked: Why the damage of the list is not known; null where it is.
    """

    edits: Count
    editors: dict[Name, ListReach]
    advice: list[str]
    not_checked: str | None


class Spread(TypedDict):
    """How a figure is distributed over edits.

    Attributes:
        low: 5 % quantile.
        median: Median.
        high: 95 % quantile.
    """

    low: Number
    median: Number
    high: Number


class ScreenedEditor(TypedDict):
    """What one editor would do with each of some edits, made by itself.

    Attributes:
        verdicts: How often each verdict came.
        relative_bound: Upper bound of the RMS change of the residual stream over corpus tokens, in
            units of its median norm after the block; null where no edit was checked.
        relative_bound_first_tokens: The same over first tokens.
        bare: φ at the bare prompt, signed; null where it is not known of any edit.
        prefixed: φ at prefixed prompts, signed, each edit's mean; null without prefixes.
    """

    verdicts: VerdictCounts
    relative_bound: Spread | None
    relative_bound_first_tokens: Spread | None
    bare: Spread | None
    prefixed: Spread | None


class ScreenedGroup(TypedDict):
    """Some of the edits at one block.

    Attributes:
        n: Number of edits.
        rho: How ρ is distributed; null without edits.
        editors: For each editor what it would do.
    """

    n: Count
    rho: Spread | None
    editors: dict[Name, ScreenedEditor]


class ByFirstToken(TypedDict):
    """Edits by where their subject's last token stands.

    Attributes:
        all: All edits.
        first: Those where it is the first token.
        later: The others.
    """

    all: ScreenedGroup
    first: ScreenedGroup
    later: ScreenedGroup


class ScreenedMethod(TypedDict):
    """What a method would do with each of the edits, made by itself.

    Attributes:
        name: The method.
        parameters: What tunes it.
        clamp_factor: ‖δ‖ is clamped to this factor times the length of what it is added to.
        faint: Number of edits whose bare prompt receives less than ``faint_below`` of the change:
            they hardly take there, whatever the verdict.
        faint_below: That share.
        groups: What was found; of this method alone.
    """

    name: Name
    parameters: dict[Name, Number]
    clamp_factor: Positive
    faint: Count
    faint_below: Number
    groups: ByFirstToken


class ScreenDocument(Head):
    """The summary of a screened data set.

    Attributes:
        schema: ``diag.screen/1``.
        dataset: The data set.
        table: The Parquet table, as it was named.
        model: The model.
        site: The edited block.
        contexts: The contexts of every edit.
        second_moment: The C the keys are judged by.
        clamp_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        limits: The limits the verdicts rest on.
        summary: Counts over the table.
        errors: The first rows that are no edits.
        riskiest: The riskiest rows.
        riskiest_file: Where the riskiest records were written; null if they were not.
        run: How the work was done.
        in_order: What would come of the edits one after another; absent where it was not asked.
        method: A method beside ROME, whose figures the table has as ``relative_bound_…``,
            ``relative_bound_first_tokens_…``, ``expected_share_…``, ``bare_…``, ``prefixed_…`` and
            ``verdict_…`` with its name; absent where none was asked for.
        rows: The table's rows; reports read them from the table.
    """

    schema: Literal["diag.screen/1"]
    dataset: Dataset
    table: str
    model: Model
    site: Site
    contexts: Contexts
    second_moment: SecondMoment
    clamp_factor: Positive
    limits: NotRequired[Limits]
    summary: ScreenSummary
    errors: list[RefusedRow]
    riskiest: list[ScreenedRow]
    riskiest_file: str | None
    run: ScreenRun
    in_order: NotRequired[InOrder]
    method: NotRequired[ScreenedMethod]
    rows: NotRequired[list[Row]]


class TableDocument(TypedDict):
    """The table alone, without its summary.

    Attributes:
        schema: ``diag.screen/1``.
        table: The Parquet table, as it was named.
        limits: The limits the verdicts rest on.
        rows: The table's rows.
        summary: Null: the summary is a document of its own.
    """

    schema: Literal["diag.screen/1"]
    table: str
    limits: NotRequired[Limits]
    rows: NotRequired[list[Row]]
    summary: NotRequired[None]


AnyScreenDocument = Annotated[TableDocument | ScreenDocument, Either("summary")]
