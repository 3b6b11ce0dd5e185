"""``diag.keys/1``: what one edit would do to a model, and why, from its keys alone."""

from typing import Annotated, Literal, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.shared import (
    Contexts,
    Finding,
    Head,
    Limits,
    Model,
    Request,
    SecondMoment,
    Site,
    Verdict,
)
from rome_diagnosis.schema.parts.values import (
    Cosine,
    Count,
    Name,
    Number,
    Pair,
    Positive,
    Says,
    Share,
    Size,
)

Quantiles = Annotated[list[Number], Len(3, 3), Says("a list of three finite numbers")]


class BareLookup(TypedDict):
    """Where the bare prompt looks the fact up.

    Attributes:
        token: The subject's last token.
        index: Its index in the prompt, begin-of-sequence token included.
        is_first_token: Whether no other token of the text precedes it.
        tokens: The prompt's tokens up to and including it.
    """

    token: str
    index: Count
    is_first_token: bool
    tokens: NotRequired[list[str]]


class ContextLookup(TypedDict):
    """Where the fact is looked up in one context.

    Attributes:
        prefix: The context's prefix; empty for the bare prompt.
        token: The subject's last token.
        index: Its index.
    """

    prefix: str
    token: str
    index: Count


class Lookup(TypedDict):
    """Where the fact is looked up: the subject's last token, in every context.

    Attributes:
        unprefixed: In the bare prompt.
        prefixed: In each context; row 0 is the bare prompt.
    """

    unprefixed: BareLookup
    prefixed: Annotated[list[ContextLookup], Len(1)]


class Keys(TypedDict):
    """Lengths and directions of the unprefixed key k_u and the mean key k̄.

    Attributes:
        norm_unprefixed: ‖k_u‖.
        norm_prefixed_mean: ‖k̄‖, the mean over all contexts, the bare prompt included.
        cosine: Cosine of k_u and k̄.
        whitened_norm_unprefixed: ‖k_u‖ in the C⁻¹ metric.
        whitened_norm_prefixed_mean: ‖k̄‖ in the C⁻¹ metric.
        whitened_length_ratio: ‖k_u‖ / ‖k̄‖ in the C⁻¹ metric: the first factor of ρ.
        whitened_cosine: Cosine of k_u and k̄ in the C⁻¹ metric: the second factor of ρ.
    """

    norm_unprefixed: Size
    norm_prefixed_mean: Size
    cosine: Cosine
    whitened_norm_unprefixed: Size
    whitened_norm_prefixed_mean: Size
    whitened_length_ratio: Size
    whitened_cosine: Cosine


# mypy does not know PEP 728 yet.
class Denominators(TypedDict, extra_items=Number | None):  # type: ignore[call-arg]
    """The denominators D of the update equation, raw, under each editor's name, and ρ.

    Attributes:
        rome: k̄ᵀC⁻¹k_u, as published code runs: signed, may be near zero.
        c_rome: k̄ᵀC⁻¹k̄, the mean key throughout.
        p_rome: k_uᵀC⁻¹k_u, the bare key throughout.
        rome_normalised: ``rome`` / ‖C⁻¹k̄‖, as the reference code prints it.
        c_rome_normalised: ``c_rome`` / ‖C⁻¹k̄‖.
        ratio: ρ = ``rome`` / ``c_rome``, free of every scale.
        ratio_without_bare: ρ with k̄ over the prefixed contexts alone; null without prefixes.
        ratio_interval: 95 % interval of ρ over draws of the contexts; null with fewer than two
            prefixes.
    """

    rome: Number
    c_rome: Positive
    p_rome: Positive
    rome_normalised: Number
    c_rome_normalised: Number
    ratio: Number
    ratio_without_bare: Number | None
    ratio_interval: Pair | None


class Bound(TypedDict):
    """The damage one editor would do at most, in closed form.

    Attributes:
        residual: Upper bound of ‖v* − v‖, in units of the MLP's output.
        expected_share: The share of this and of the other bounds that is expected, below 1 where
            Adam's steps usually end before the clamp; alarms are raised of what is expected, and
            only what is safe at its bound is called safe.
        bound: Upper bound of the root-mean-square change of the MLP's output over corpus tokens;
            null without a corpus moment or where D is 0.
        relative_bound: The same for the residual stream, in units of its median norm after the
            block; null where it could not be checked.
        relative_bound_first_tokens: The same over the first tokens of texts.
        verdict: The verdict on this editor.
        update_norm: ‖ΔW‖ with the optimised target, where one was optimised.
        relative: The damage with the optimised target, in the same units.
    """

    residual: Size
    expected_share: NotRequired[Share]
    bound: Size | None
    relative_bound: Size | None
    relative_bound_first_tokens: NotRequired[Size | None]
    verdict: NotRequired[Verdict]
    update_norm: NotRequired[Size | None]
    relative: NotRequired[Size | None]


class Damage(TypedDict, extra_items=Bound):  # type: ignore[call-arg]
    """Bounds of the damage, under each editor's name, and what they rest on.

    Attributes:
        rome: Bound for ROME as published.
        c_rome: Bound for C-ROME.
        p_rome: Bound for P-ROME.
        clamp_norm_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        residual_norm: Median norm of the residual stream after the block over later corpus tokens;
            null where it is not known or does not apply.
        checked: ``closed form`` where the MLP's output reaches the residual stream times a number,
            ``sampled`` where a norm stands in between and the change is passed through it at the
            corpus keys beside C; null where relative bounds could not be checked.
        not_checked: Why they could not.
        contribution: How the MLP's output reaches the residual stream, in a phrase.
    """

    rome: Bound
    c_rome: Bound
    p_rome: Bound
    clamp_norm_factor: Positive
    residual_norm: Positive | None
    checked: NotRequired[Literal["closed form", "sampled"] | None]
    not_checked: NotRequired[str | None]
    contribution: NotRequired[str]


class Response(TypedDict):
    """The share φ of the wanted change v* − v that other keys receive from one editor.

    Attributes:
        bare: φ at the bare prompt, signed.
        prefixed: φ at the prefixed prompts, signed, mean; null without prefixes.
        other_first_tokens: φ at first tokens of ordinary text, root mean square; null without a
            sample of them.
        later_tokens: φ at later tokens of ordinary text, root mean square; null without a sample.
        first_token_quantiles: 5 %, 50 % and 95 % quantile of φ at first tokens, signed; null
            without a sample of them.
    """

    bare: Number
    prefixed: Number | None
    other_first_tokens: Size | None
    later_tokens: Size | None
    first_token_quantiles: NotRequired[Quantiles | None]


class LayerStatistics(TypedDict):
    """How the first position differs in one block, with and without a prefix.

    Attributes:
        layer: The block.
        key_norm_unprefixed: ‖k_u‖ in that block.
        key_norm_prefixed: Mean norm of the prefixed keys; null without prefixes.
        cosine: Cosine of k_u and the mean prefixed key; null without prefixes.
        residual_norm_first: Norm of the residual stream entering the block at the first token,
            mean over contexts.
        residual_norm_later: Its median norm at all later tokens; null where there are none.
        massive_activation: Largest over median magnitude of the stream's coordinates at the first
            token, mean over contexts; null where the median is 0.
        attention_to_first: Attention that later tokens pay to the first one, mean over heads,
            tokens and contexts; null where no token follows it.
    """

    layer: Count
    key_norm_unprefixed: Size
    key_norm_prefixed: Size | None
    cosine: Cosine | None
    residual_norm_first: Size
    residual_norm_later: Size | None
    massive_activation: Size | None
    attention_to_first: Share | None


class Place(TypedDict):
    """Where k_u lies among ordinary keys, in the C⁻¹ metric.

    Attributes:
        distance: Distance to the population's mean.
        typical_distance: Median of the members' own distances.
        percentile: Share of the members that lie nearer.
        cosine: Cosine of k_u and the population's mean.
    """

    distance: Size
    typical_distance: Size
    percentile: Share
    cosine: Cosine


class Population(TypedDict):
    """k_u among ordinary keys.

    Attributes:
        first: Among keys of ordinary first tokens; null without a sample of them.
        later: Among keys of ordinary later tokens; null without a sample of them.
    """

    first: Place | None
    later: Place | None


class Likeness(TypedDict):
    """How much k_u is like the keys of ordinary first tokens.

    Attributes:
        cosine: Cosine with the mean first-token key, in the C⁻¹ metric.
        first_percentile: Share of ordinary first-token keys with a smaller one.
        later_percentile: Share of ordinary later keys with a smaller one.
    """

    cosine: Cosine
    first_percentile: Share
    later_percentile: Share


class Concentration(TypedDict):
    """Mean similarity among ordinary keys, in the C⁻¹ metric: 1 if all are identical.

    Attributes:
        first: Among keys of first tokens.
        later: Among keys of later tokens.
    """

    first: Number
    later: Number


class LongestPosition(TypedDict):
    """The later position with the longest residual stream: another sink, perhaps.

    Attributes:
        context: The context; 0 is the bare prompt.
        index: The token's index.
        token: The token.
        residual_norm: Norm of the residual stream entering the edited block there.
        attention: Attention it receives from later tokens; null for a last token.
        residual_norm_ratio: The norm over the corpus' median.
    """

    context: Count
    index: Count
    token: str
    residual_norm: Size
    attention: Share | None
    residual_norm_ratio: Size


class Plane(TypedDict):
    """Keys in the plane of k̄ and k_u, in the C⁻¹ metric.

    The first coordinate lies along k̄: times ‖k̄‖ it is the inner product with C⁻¹k̄.

    Attributes:
        unprefixed: k_u.
        mean: k̄.
        prefixed: The prefixed keys.
        first: Keys of ordinary first tokens.
        later: Keys of ordinary later tokens.
    """

    unprefixed: Pair
    mean: Pair
    prefixed: list[Pair]
    first: list[Pair]
    later: list[Pair]


class FirstToken(TypedDict):
    """What sets the first token's key apart.

    Attributes:
        layers: Statistics of every block up to the edited one.
        population: Where k_u lies among ordinary keys.
        likeness: How much it is like a first token's; null without a sample of ordinary keys.
        concentration: Similarity among ordinary keys; null without a sample of them.
        longest_later_position: Null where nothing follows the first token, or no corpus is known.
        projection: Keys in the plane of k̄ and k_u.
    """

    layers: Annotated[list[LayerStatistics], Len(1)]
    population: Population
    likeness: Likeness | None
    concentration: Concentration | None
    longest_later_position: LongestPosition | None
    projection: NotRequired[Plane]


class KeysDocument(Head):
    """What one edit would do to a model, and why.

    Attributes:
        schema: ``diag.keys/1``.
        model: The model.
        site: The edited block.
        request: The fact.
        contexts: The contexts its keys are taken in.
        lookup: Where it is looked up in each.
        second_moment: The C its keys are judged by.
        keys: Lengths and directions of its keys.
        denominators: Denominators of every editor, and ρ.
        damage: Bounds of the damage of every editor.
        response: Who else receives the edit, for each editor; null for one whose D is 0.
        first_token: What sets the first token's key apart.
        findings: Each measurement held against its limit.
        limits: The limits the verdict rests on.
        validity: On which models these limits were validated, in a sentence.
        verdict: On ROME as published.
        summary: One paragraph that says why, and what to do instead.
    """

    schema: Literal["diag.keys/1"]
    model: Model
    site: Site
    request: Request
    contexts: Contexts
    lookup: Lookup
    second_moment: SecondMoment
    keys: Keys
    denominators: Denominators
    damage: Damage
    response: NotRequired[dict[Name, Response | None]]
    first_token: FirstToken
    findings: list[Finding]
    limits: NotRequired[Limits]
    validity: NotRequired[str]
    verdict: Verdict
    summary: str
