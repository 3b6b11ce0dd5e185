"""What several kinds of documents have in common: head, model, site, request, second moment."""

from typing import Annotated, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.values import (
    Count,
    Integer,
    Name,
    Number,
    Pair,
    Positive,
    Prompt,
    Share,
    Size,
)

Versions = TypedDict(
    "Versions", {"python": str, "torch": str, "transformers": str, "transformer-lens": str}
)
Versions.__doc__ = """Versions of what numbers can depend on beside the weights and the text.

Attributes:
    python: The interpreter's.
    torch: PyTorch's.
    transformers: Hugging Face transformers'.
    transformer-lens: TransformerLens'.
"""


class Head(TypedDict):
    """The first fields of a document.

    Attributes:
        version: Version of this toolkit.
        created: When the measurement began, ISO 8601 in UTC.
        versions: Versions of Python and of the libraries that measured.
        command: The command line that measures the same again; null for a library call.
    """

    version: str
    created: str
    versions: Versions
    command: str | None


class Model(TypedDict):
    """The model that was measured.

    Attributes:
        name: What the user called it; ``bundled`` for the model that comes along.
        path: The directory it was loaded from; null for a model handed over in memory.
        architecture: Its class in Hugging Face transformers.
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        d_mlp: Length of a key: width of the MLP's hidden layer.
        dtype: Type of the weights, e.g. ``float32``.
        device: Where it ran.
        bos_prepended: Whether a begin-of-sequence token preceded every text.
        fingerprint: Digest of the weights; equal for equal weights.
        autocast: Type in which passes over text multiplied matrices, e.g. ``bfloat16``, where it
            was not the weights'; the edited matrix and the update are not rounded to it, and C is
            summed in float64.
        weights: What the weights were dequantised from, e.g. ``from Q4_1 (FILE.gguf)``; null
            for a model that was not quantised.
    """

    name: str
    path: str | None
    architecture: str
    n_layers: Count
    d_model: Count
    d_mlp: Count
    dtype: str
    device: str
    bos_prepended: bool
    fingerprint: str
    weights: NotRequired[str | None]
    autocast: NotRequired[str]


class Site(TypedDict):
    """Where the edit is made.

    Attributes:
        layer: The edited block, from 0.
        hook: TransformerLens' name of the activation that is the key.
    """

    layer: Count
    hook: str


class Request(TypedDict):
    """The fact that is edited.

    Attributes:
        subject: Its subject.
        prompt: The prompt that asks for it, ``{}`` for the subject.
        target_new: The object the edit writes; null where none was given.
        target_true: The object the model is meant to give now; null where none was given.
        notes: What was supplied or changed in reading the request.
    """

    subject: str
    prompt: Prompt
    target_new: str | None
    target_true: str | None
    notes: NotRequired[list[str]]


class Contexts(TypedDict):
    """The contexts a prompt is put into. Context 0 is the bare prompt; these are 1 to n.

    Attributes:
        seed: Seed of the sampled prefixes; null where they were given.
        sampled: Whether the prefixes were sampled from the model.
        n: Number of prefixes.
        prefixes: The prefixes themselves.
    """

    seed: Integer | None
    sampled: bool
    n: Count
    prefixes: NotRequired[list[str]]


class Moment(TypedDict):
    """The second moment C = E[k kᵀ] of keys over corpus tokens, and what is known about it.

    Attributes:
        source: ``shipped``, ``estimated``, ``identity``, or the file it was read from.
        ridge: Added to C's diagonal in the solve, absolute; 0 unless needed.
        condition_number: Condition number of C as it is solved with, ridge included.
        noise_floor: Length of a key's rounding error in the C⁻¹ metric, relative to an ordinary
            key's.
        position0_share: Share of the tokens that were the first of their row; null if unknown.
        row_length: Tokens in a row; null if unknown.
        bos: Whether a begin-of-sequence token began every row; null for the identity.
        corpus: Name of the corpus; null for the identity.
        corpus_digest: SHA-256 of its documents; null for the identity.
        foreign_text: Whether its text is the bundled world's and the model another, so that damage
            over ordinary text may be several times what it says.
        other_text: Mean square in the C⁻¹ metric, over its expectation d_mlp, of keys of packaged
            text, where C is of another: from 2 on nothing is called safe.
        keys_in: Type that the keys it was summed of were rounded to, where it is a short one.
    """

    source: str
    ridge: Size
    condition_number: Size
    noise_floor: NotRequired[Size]
    position0_share: Share | None
    row_length: Count | None
    bos: bool | None
    corpus: str | None
    corpus_digest: str | None
    foreign_text: NotRequired[bool]
    other_text: NotRequired[Size]
    keys_in: NotRequired[str]


class SecondMoment(Moment):
    """The second moment C that keys are judged by.

    Attributes:
        n_tokens: Tokens it was estimated on; null for the identity.
    """

    n_tokens: Count | None


Limits = dict[Name, Positive]
Verdict = Literal["collapse_risk", "damage_risk", "unclear", "safe"]
Status = Literal["pass", "warn", "fail", "not_checked"]


class Finding(TypedDict):
    """One measurement, held against its limit.

    Attributes:
        id: Its name, stable across versions.
        status: ``pass``, ``warn``, ``fail``, or ``not_checked`` with the reason in ``message``.
        value: What was measured; null where it was not.
        limit: What it was held against; null where it has no limit.
        message: A sentence with both.
    """

    id: Name
    status: Status
    value: Number | None
    limit: Number | None
    message: str


class Estimate(TypedDict):
    """A mean with its 95 % percentile bootstrap interval.

    Attributes:
        mean: The mean of the values.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Number of values.
    """

    mean: Number
    low: Number
    high: Number
    n: Count


class Point(TypedDict):
    """One vector in two dimensions.

    Attributes:
        kind: ``unprefixed`` (k_u), ``prefixed`` (k_i) or ``direction`` (C⁻¹k̄, of length 1).
        subject: The subject, or for a list of edits the edit's index among ``edits``, as text.
        rho: ρ of that subject's bare key.
        pca: Its first two principal components.
        tsne: Its place in a t-SNE; null where there are too few points for one.
    """

    kind: Literal["unprefixed", "prefixed", "direction"]
    subject: str
    rho: Number
    pca: Pair
    tsne: Pair | None


class Projection(TypedDict):
    """Vectors that were projected together.

    Attributes:
        points: The vectors.
        explained: Share of the variance each of the two principal components holds.
    """

    points: list[Point]
    explained: Annotated[list[Share], Len(2, 2)]


class Projections(TypedDict):
    """Keys and directions of many edits in two dimensions, as in the paper's pictures.

    Attributes:
        keys: Unprefixed and prefixed keys.
        directions: The directions C⁻¹k̄ in which ROME writes.
    """

    keys: Projection
    directions: Projection


class Dataset(TypedDict):
    """The data set.

    Attributes:
        name: Name of its file.
        digest: SHA-256 of its bytes.
        notes: What was left out or changed in reading it.
    """

    name: str
    digest: str
    notes: NotRequired[list[str]]
