"""``diag.covariance/1``: second moments that were estimated, merged or imported."""

from typing import Annotated, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.shared import Moment, Versions
from rome_diagnosis.schema.values import Count, Number, Pair, Positive, Size


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
        fit: Of imported statistics: mean squared length of ordinary keys in its metric, over
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
