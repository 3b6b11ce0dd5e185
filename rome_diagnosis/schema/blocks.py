"""Of several blocks or settings: ``diag.covariance/1``, ``diag.compare/1``, and edits at blocks.

``diag.sweep/1`` is one edit at several blocks, ``diag.screen_layers/1`` those of a data set.
"""

from typing import Annotated, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.shared import (
    Contexts,
    Dataset,
    Head,
    Limits,
    Model,
    Moment,
    Request,
    SecondMoment,
    Verdict,
    Versions,
)
from rome_diagnosis.schema.parts.values import Count, Name, Number, Pair, Positive, Share, Size
from rome_diagnosis.schema.screen import ByFirstToken, ScreenRun


class Convergence(TypedDict):
    """How far ρ of control edits moves between two halves of the corpus.

    Attributes:
        n: Number of control edits.
        median: Median of |ρ by one half − ρ by the other| / 2.
        largest: The largest of these.
        typical: Median of |ρ| by the whole corpus.
        halves: ρ of each edit by one half and by the other.
    """

    n: Count
    median: Size
    largest: Size
    typical: Size
    halves: NotRequired[list[Pair]]


class LayerMoment(Moment):
    """The second moment of one block's keys.

    Attributes:
        n_tokens: Tokens it rests on.
        layer: The block.
        file: Where it was written.
        d_mlp: Length of a key.
        tokens_per_dimension: ``n_tokens`` / ``d_mlp``.
        convergence: How well it is known; null with too little text to halve.
        shrinkage: The intensity Ledoit and Wolf's estimate would shrink it with.
        fit: For imported statistics, the mean squared length of ordinary keys in its metric, over
            ``d_mlp``; 1 if they are of this model.
    """

    n_tokens: Count
    layer: Count
    file: str
    d_mlp: Count
    tokens_per_dimension: Size
    convergence: NotRequired[Convergence | None]
    shrinkage: NotRequired[Number | None]
    fit: NotRequired[Number | None]


class EstimateRun(TypedDict):
    """How the work was done.

    Attributes:
        processes: Number of processes.
        seconds: Time they took.
        n_tokens: Tokens that were run through the model.
    """

    processes: Count
    seconds: Positive
    n_tokens: Count


class CovarianceDocument(TypedDict):
    """Second moments of one or more blocks, each in a file of its own.

    Attributes:
        schema: ``diag.covariance/1``.
        version: Version of this toolkit.
        created: When the measurement began, ISO 8601 in UTC.
        versions: Versions of Python and of the libraries that measured.
        command: The command line that measures the same again; null for a library call.
        model: The model's name.
        fingerprint: Digest of its weights.
        corpus: Name of the corpus.
        layers: The blocks.
        run: How the work was done; missing where nothing was run.
    """

    schema: Literal["diag.covariance/1"]
    version: str
    created: NotRequired[str]
    versions: NotRequired[Versions]
    command: str | None
    model: str
    fingerprint: str
    corpus: str
    layers: Annotated[list[LayerMoment], Len(1)]
    run: NotRequired[EstimateRun]


class SweptEditor(TypedDict):
    """What one editor would do at one block.

    Attributes:
        denominator: D.
        relative_bound: Upper bound of the RMS change of the residual stream over corpus tokens, in
            units of its median norm after the block; null where it was not checked.
        relative_bound_first_tokens: The same over first tokens.
        expected_share: The share of these bounds that is expected.
        bare: Share of the change that the bare prompt receives, signed; null where unknown.
        prefixed: The same at prefixed prompts.
        verdict: The verdict; on the published editor over draws of the contexts.
    """

    denominator: Number
    relative_bound: Size | None
    relative_bound_first_tokens: Size | None
    expected_share: NotRequired[Share]
    bare: Number | None
    prefixed: Number | None
    verdict: Verdict


class SweptLayer(TypedDict):
    """The edit at one block.

    Attributes:
        layer: The block.
        second_moment: What its keys are judged by.
        ratio: ρ.
        ratio_interval: 95 % interval of ρ over draws of the contexts; null where there are too few.
        residual_norm: Median norm of the residual stream after the block; null if unknown.
        editors: For each editor what it would do.
        verdict: The verdict on ROME as published.
    """

    layer: Count
    second_moment: SecondMoment
    ratio: Number
    ratio_interval: Pair | None
    residual_norm: Positive | None
    editors: dict[Name, SweptEditor]
    verdict: Verdict


class SinkBlock(TypedDict):
    """The first position as it enters one block, averaged over contexts.

    Attributes:
        layer: The block.
        norm_first: Norm of the residual stream at the first position.
        norm_later: Median norm at later positions; null where there are none.
        norm_ratio: The first over the second.
        written: Norm of what the block's MLP outputs at the first position.
        coordinates: Indices of the stream's largest coordinates there.
        coordinates_share: Share of its squared norm that these carry.
        attention_to_first: Attention that later tokens pay to it; null where there are none.
    """

    layer: Count
    norm_first: Size
    norm_later: Size | None
    norm_ratio: Size | None
    written: Size
    coordinates: list[Count]
    coordinates_share: Share
    attention_to_first: Share | None


class Sink(TypedDict):
    """The attention sink over depth.

    Attributes:
        written_by: Blocks that an ordinary stream enters and a sink's leaves at the first position.
        limit: From which ratio of norms on it is one.
        blocks: A row for each block up to the last that was asked for.
    """

    written_by: list[Count]
    limit: Positive
    blocks: list[SinkBlock]


class SweptLookup(TypedDict):
    """Where the bare prompt looks the fact up.

    Attributes:
        token: The subject's last token.
        index: Its index in the prompt.
        is_first_token: Whether no other token of the text precedes it.
    """

    token: str
    index: Count
    is_first_token: bool


class SweepDocument(Head):
    """One edit at several blocks.

    Attributes:
        schema: ``diag.sweep/1``.
        model: The model.
        request: The fact that is edited.
        contexts: The contexts the prompt is put into.
        lookup: Where the bare prompt looks the fact up.
        clamp_norm_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        limits: The limits the verdicts rest on.
        validity: On which models the limits were validated.
        layers: The edit at each block.
        sink: The attention sink over depth.
        summary: Which blocks are safe to edit, and where the sink is born.
    """

    schema: Literal["diag.sweep/1"]
    model: Model
    request: Request
    contexts: Contexts
    lookup: SweptLookup
    clamp_norm_factor: Positive
    limits: Limits
    validity: NotRequired[str]
    layers: list[SweptLayer]
    sink: Sink
    summary: str


class ComparedDiagnosis(SweptLayer):
    """One of several diagnoses.

    Attributes:
        label: What tells it from the others.
        model: The model.
        request: The fact that is edited.
        contexts: The contexts the prompt is put into.
        clamp_norm_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
    """

    label: str
    model: Model
    request: Request
    contexts: Contexts
    clamp_norm_factor: Positive


class CompareDocument(Head):
    """Several diagnoses side by side.

    Attributes:
        schema: ``diag.compare/1``.
        differ: The settings in which they differ.
        limits: The limits the verdicts rest on.
        rows: The diagnoses.
        summary: In what they differ, and what the verdicts are.
    """

    schema: Literal["diag.compare/1"]
    differ: list[Name]
    limits: Limits
    rows: Annotated[list[ComparedDiagnosis], Len(1)]
    summary: str


class ScreenedLayer(TypedDict):
    """The data set at one block.

    Attributes:
        layer: The block.
        second_moment: The C its keys are judged by.
        residual_norm: Median norm of the residual stream after the block; null if unknown.
        screened: Number of rows with a verdict.
        errors: Number of rows without.
        groups: What was found.
    """

    layer: Count
    second_moment: SecondMoment
    residual_norm: Positive | None
    screened: Count
    errors: Count
    groups: ByFirstToken


class RefusedAtLayers(TypedDict):
    """A row of the data set that is no edit, or could not be measured at some blocks.

    Attributes:
        row: Its place in the data set, from 0.
        layers: The blocks.
        error: Why not.
    """

    row: Count
    layers: list[Count]
    error: str


class ScreenLayersDocument(Head):
    """A data set screened at several blocks.

    Attributes:
        schema: ``diag.screen_layers/1``.
        dataset: The data set.
        table: The Parquet table, as it was named: for each row of the data set a row for each
            block. Beside the columns of ``diag.screen/1`` it has ``layer``, and for each editor
            ``relative_bound_…``, ``relative_bound_first_tokens_…``, ``expected_share_…``,
            ``bare_…``, ``prefixed_…`` and ``verdict_…`` (ROME's is ``verdict``).
        model: The model.
        contexts: The contexts of every edit.
        clamp_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        limits: The limits the verdicts rest on.
        validity: On which models the limits were validated.
        layers: The data set at each block.
        errors: The first rows that are no edits.
        n_errors: Number of all of them.
        summary: At which blocks the edits are safe, and at which they are not.
        run: How the work was done.
    """

    schema: Literal["diag.screen_layers/1"]
    dataset: Dataset
    table: str
    model: Model
    contexts: Contexts
    clamp_factor: Positive
    limits: Limits
    validity: str
    layers: Annotated[list[ScreenedLayer], Len(1)]
    errors: list[RefusedAtLayers]
    n_errors: Count
    summary: str
    run: ScreenRun
