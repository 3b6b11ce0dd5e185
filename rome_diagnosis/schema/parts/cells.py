"""Keys and sinks block by block, as ``probes.first_token/1`` documents hold them."""

from typing import Annotated, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.values import Cosine, Count, Name, Share, Size


class CellMeaning(TypedDict):
    """What a cell holds.

    Attributes:
        meaning: In words.
    """

    meaning: str


class Cell(TypedDict):
    """The keys of one cell in one block.

    Attributes:
        n: Number of keys.
        norm: Their mean norm.
        norm_deviation: Standard deviation of their norms.
        spread: Their variance over their mean square: near 0 if all are one vector.
        effective_rank: Number of directions they span.
        whitened_norm: Their mean norm in the C⁻¹ metric; null without C.
        whitened_spread: Their spread in it; null without C.
    """

    n: Count
    norm: Size | None
    norm_deviation: Size | None
    spread: Size | None
    effective_rank: Size | None
    whitened_norm: Size | None
    whitened_spread: Size | None


class Probe(TypedDict):
    """A logistic regression that tells two cells' keys apart.

    Attributes:
        auc: Area under the ROC curve on subjects left out of the fit, mean over folds.
        null_mean: The same with shuffled labels, mean over shuffles.
        null_largest: The largest over shuffles.
        n_folds: Number of folds.
        n_shuffles: Number of shuffles.
    """

    auc: Share
    null_mean: Share
    null_largest: Share
    n_folds: Count
    n_shuffles: Count


class CellPair(TypedDict):
    """How far two cells' keys lie apart in one block.

    Attributes:
        cells: Names of the two cells.
        cosine: Cosine of their mean keys.
        whitened_cosine: The same in the C⁻¹ metric; null without C.
        mahalanobis: Distance of the means in units of the spread within; null where there is none.
        frechet: Fréchet distance, in the keys' own units.
        probe: A logistic probe; null with too few subjects.
    """

    cells: Annotated[list[Name], Len(2, 2)]
    cosine: Cosine | None
    whitened_cosine: Cosine | None
    mahalanobis: Size | None
    frechet: Size | None
    probe: Probe | None


class BlockCells(TypedDict):
    """One block's keys.

    Attributes:
        layer: The block.
        whitened: Whether a second moment of this block was at hand.
        cells: Statistics of each cell.
        pairs: Statistics of pairs of cells.
    """

    layer: Count
    whitened: NotRequired[bool]
    cells: dict[Name, Cell]
    pairs: list[CellPair]


class Coordinate(TypedDict):
    """A coordinate of the residual stream at the first token.

    Attributes:
        index: Its index.
        magnitude: Its mean absolute value.
        share: Its share of the stream's squared norm.
    """

    index: Count
    magnitude: Size
    share: Share


class OtherSink(TypedDict):
    """A later token that acts as a sink.

    Attributes:
        token: The token.
        index: The position at which it most often does.
        count: How many times it did.
        attention: The largest attention it received, mean over heads.
        length: The largest norm of its stream over the median later one; null if that is 0.
        massive: Largest over median magnitude of its stream's coordinates, at its largest; null
            if a median is 0.
    """

    token: str
    index: Count
    count: Count
    attention: Share
    length: Size | None
    massive: Size | None


class SinkStatistics(TypedDict):
    """One block's attention sinks and massive activations.

    Attributes:
        layer: The block.
        attention_to_first: Attention later tokens pay to the first one, mean over heads.
        sink_rate: Share of heads that are sinks.
        length_first: Mean norm of the residual stream entering at the first token.
        length_later: Its median norm at later tokens.
        massive_first: Largest over median magnitude of its coordinates at the first token, mean;
            null if a median is 0.
        massive_later: The same at later tokens, median.
        coordinates: The largest coordinates at the first token.
        others: Later tokens that act as sinks.
    """

    layer: Count
    attention_to_first: Share
    sink_rate: Share
    length_first: Size
    length_later: Size
    massive_first: Size | None
    massive_later: Size | None
    coordinates: list[Coordinate]
    others: list[OtherSink]


class Sinks(TypedDict):
    """Attention sinks, block by block.

    Attributes:
        n_texts: Number of ordinary texts they were measured on.
        layers: Statistics of each block.
    """

    n_texts: Count
    layers: list[SinkStatistics]
