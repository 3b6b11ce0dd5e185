"""``diag.sequence/1``: a list of edits made one after another, forecast and performed."""

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
    Count,
    Integer,
    Name,
    Number,
    Positive,
    Prompt,
    Share,
    Size,
)
from rome_diagnosis.schema.tasks import TaskChange, TaskScore
from rome_diagnosis.schema.verify import KnownFacts, Texts


class SequenceEdit(TypedDict):
    """One edit of the list, before any is made.

    Attributes:
        index: Its place in the list as it was given, from 0.
        case_id: The record's own identifier; null if it has none.
        subject: The subject.
        prompt: The prompt, ``{}`` for the subject.
        token: The subject's last token in the bare prompt.
        is_first_token: Whether no other token of the text precedes it.
        rho: ρ of its keys.
        damage: What it does alone to hidden states of corpus tokens at most, in units of their
            norm; null where it could not be checked.
        first_tokens: The same at first tokens.
        expected_share: The share of both that is expected; alarms are raised of that.
        verdict: On the edit alone, with the method it is forecast for.
        response: Share of its change that its bare prompt receives, signed.
        forgetting: What later edits are expected to add at its key, over what it wrote there.
    """

    index: Count
    case_id: str | None
    subject: str
    prompt: Prompt
    token: str
    is_first_token: bool
    rho: Number
    damage: Size | None
    first_tokens: Size | None
    expected_share: NotRequired[Share]
    verdict: Verdict
    response: NotRequired[Number]
    forgetting: Size | None


class RefusedEdit(TypedDict):
    """A record of the list that is no edit, or whose key cannot be read.

    Attributes:
        index: Its place in the list as it was given, from 0.
        reason: Why not.
    """

    index: Count
    reason: str


class Expected(TypedDict):
    """A forecast figure, with its interval for the chosen method.

    Attributes:
        expected: With δ of unrelated directions, each at its clamp or as far as Adam comes.
        low: With every δ half as long.
        high: With every δ as long as it can be.
    """

    expected: Size
    low: NotRequired[Size]
    high: NotRequired[Size]


class ForecastPoint(TypedDict):
    """Damage after a number of edits, in units of hidden states' norm.

    Attributes:
        edits: How many edits have been made.
        damage: Over corpus tokens.
        first_tokens: Over first tokens; null where there is no sample of them.
    """

    edits: Count
    damage: Expected
    first_tokens: Expected | None


class DangerousAlone(TypedDict):
    """An edit that is dangerous whatever else is made.

    Attributes:
        index: Its place in the list as it was given, from 0.
        subject: The subject.
        reason: A phrase with the measured number and its limit.
        verdict: On the edit alone.
    """

    index: Count
    subject: str
    reason: str
    verdict: Verdict


class DangerousPair(TypedDict):
    """Two edits that disturb each other.

    Attributes:
        earlier: Index of the edit that is made first.
        later: Index of the other.
        share: Share of the later edit's change that arrives at the earlier one's key, signed.
        reason: A sentence.
    """

    earlier: Count
    later: Count
    share: Number
    reason: str


class Reach(TypedDict):
    """How far a list gets.

    Attributes:
        edits: How many edits it has.
        harm_at: Number of edits after which the expected damage over the corpus and at first
            tokens, each over its limit of harm, reach 1 together, by squares; null if they do not.
        collapse_at: The same of the limit of collapse.
        damage: Expected damage over corpus tokens after the last edit; null where it could not be
            checked.
        first_tokens: The same over first tokens.
    """

    edits: Count
    harm_at: Count | None
    collapse_at: Count | None
    damage: Size | None
    first_tokens: Size | None


class ListReach(Reach):
    """How far the list gets with one method.

    Attributes:
        n_dangerous: How many of its edits are dangerous alone.
    """

    n_dangerous: Count


class EditorReach(ListReach):
    """How far the list gets with one method, and how damage grows.

    Attributes:
        curve: Damage along the list; empty where it could not be checked.
    """

    curve: list[ForecastPoint]


class Forgetting(TypedDict):
    """What later edits are expected to do to earlier ones.

    Attributes:
        median: Median over the edits before the last of what is added at their keys, over what they
            wrote there; null where that is nothing.
        n_lost: How many have as much added as they wrote.
        n: Number of edits in the list.
    """

    median: Size | None
    n_lost: Count
    n: Count


class SequenceForecast(TypedDict):
    """What the list will do with the chosen method.

    Attributes:
        collapse_at: Number of edits after which the expected damage reaches the limit of collapse;
            null if it does not.
        collapse_between: The same with every δ as long as it can be, and half as long as expected.
        harm_at: The same of the limits of harm.
        dangerous: Edits that are dangerous alone, in the order in which they are made.
        pairs: Pairs of edits that disturb each other, the worst first.
        damage: Expected damage over corpus tokens after each edit, in units of hidden states' norm;
            empty where it could not be checked.
        curve: The same with intervals, at up to some hundred places.
        without_dangerous: How far the list gets without its dangerous edits.
        with_remedy: How far it gets where the dangerous edits are made by ``remedy`` instead; null
            where there are none, or the method couples the edits of a batch.
        remedy: The editor that repairs dangerous edits.
        forgetting: What later edits do to earlier ones.
        not_checked: Why damage could not be checked; null where it was.
    """

    collapse_at: Count | None
    collapse_between: Annotated[list[Count | None], Len(2, 2)]
    harm_at: Count | None
    dangerous: list[DangerousAlone]
    pairs: list[DangerousPair]
    damage: list[Size]
    curve: list[ForecastPoint]
    without_dangerous: Reach
    with_remedy: Reach | None
    remedy: Name
    forgetting: Forgetting
    not_checked: str | None


class Checkpoint(TypedDict):
    """The model after a number of edits.

    Attributes:
        edits: How many edits had been made.
        perplexity: Token-weighted perplexity; null where it is not a finite number.
        ratio: The same over that of the unedited model.
        ratio_interval: Its 95 % interval over the draw of the texts; null where it is not known.
        efficacy: Whether the latest edit took, as 0 or 1.
        efficacy_all: Share of all edits so far that hold.
        efficacy_prefixed: The same with an editing prefix before each prompt, as C-ROME needs it.
        generalisation: Share of the paraphrases of all edits so far that give the new object; null
            without any.
        locality: Share of the neighbouring facts of all edits so far that still hold; null without
            any.
        recall: Share of other facts that are still given; null where none is known.
        damage_predicted: RMS change of hidden states over the corpus, in closed form, in units of
            their norm; null where it could not be checked.
        damage_first_tokens: The same at first tokens.
        damage_measured: ``damage_predicted``, measured over the texts.
        weight_norm_ratio: ‖ΔW‖ / ‖W‖.
        top_singular_value: Largest singular value of the edited matrix over that of the unedited.
        condition_number: Condition number of the edited matrix; null where it is singular.
        logits_finite: Whether every logit that was read is finite.
        text: What the model writes after the latest edit's prompt.
        outcome: ``intact``, ``damaged`` or ``collapsed``.
        reasons: What decided the outcome.
        tasks: What became of downstream tasks, where they were asked.
    """

    edits: Count
    perplexity: Size | None
    ratio: Size | None
    ratio_interval: Annotated[list[Size], Len(2, 2)] | None
    efficacy: Share | None
    efficacy_all: Share | None
    efficacy_prefixed: Share | None
    generalisation: Share | None
    locality: Share | None
    recall: Share | None
    damage_predicted: Size | None
    damage_first_tokens: NotRequired[Size | None]
    damage_measured: Size | None
    weight_norm_ratio: Size
    top_singular_value: Size
    condition_number: Size | None
    logits_finite: bool
    text: str
    outcome: Literal["intact", "damaged", "collapsed"]
    reasons: list[str]
    tasks: NotRequired[dict[str, TaskChange]]


class Culprit(TypedDict):
    """The edit with which the model collapsed; of a batch, the one that does most alone.

    Attributes:
        index: Its place in the list as it was given, from 0.
        subject: The subject.
        damage: What it did alone, in units of hidden states' norm; null where not checked.
        alone: Whether it breaks the unedited model by itself; otherwise it is the last of many.
    """

    index: Count
    subject: str
    damage: Size | None
    alone: bool


class Performance(TypedDict):
    """How the edits were made.

    Attributes:
        made: How many were made.
        failed: Edits that could not be made, with the reason.
        culprit: The edit with which the model collapsed; null if it did not.
        residuals: Mean of ‖v* − v‖ over what the forecast expected of it.
        agreement: Mean cosine between the residuals of two edits; null with fewer than two.
        known_facts: How many facts recall is measured on.
        measured: How many edits efficacy and locality are measured on, spread over the list.
    """

    made: Count
    failed: list[RefusedEdit]
    culprit: Culprit | None
    residuals: Size | None
    agreement: Number | None
    known_facts: Count
    measured: Count


class SequenceDocument(Head):
    """A list of edits, forecast and, where that was asked for, performed.

    Attributes:
        schema: ``diag.sequence/1``.
        dataset: The list.
        model: The model.
        site: The edited block.
        contexts: The contexts of every edit.
        second_moment: The C the keys are judged by.
        clamp_factor: ‖δ‖ is clamped to this factor times ‖v_u‖.
        limits: The limits the forecast rests on.
        method: The method the list is made with.
        parameters: What it is tuned with, by name.
        batch: How many edits are made together.
        order: ``given`` or ``shuffled``.
        seed: Seed of the order; null where it is the given one.
        edits: The edits, in the order in which they are made.
        refused: Records of the list that are none.
        forecast: What the list will do.
        editors: How far it gets with each method whose targets lie in the same place.
        advice: What to do, in sentences.
        checkpoints: What was measured; empty where nothing was edited.
        collapse_at: How many edits had been made when the model met the criterion of collapse;
            null if it did not, or nothing was edited.
        collapse_ratio: The perplexity ratio that counts as collapse.
        texts: The texts of the perplexity.
        known_facts: The facts whose recall is measured.
        tasks: The unedited model's scores in downstream tasks, where they were asked.
        performance: How the edits were made; null where nothing was edited.
    """

    schema: Literal["diag.sequence/1"]
    dataset: Dataset
    model: Model
    site: Site
    contexts: Contexts
    second_moment: SecondMoment
    clamp_factor: Positive
    limits: Limits
    method: Name
    parameters: NotRequired[dict[Name, Number]]
    batch: NotRequired[Count]
    order: Literal["given", "shuffled"]
    seed: Integer | None
    edits: Annotated[list[SequenceEdit], Len(1)]
    refused: list[RefusedEdit]
    forecast: SequenceForecast
    editors: dict[Name, EditorReach]
    advice: list[str]
    checkpoints: list[Checkpoint]
    collapse_at: Count | None
    collapse_ratio: NotRequired[Positive]
    texts: NotRequired[Texts]
    known_facts: NotRequired[KnownFacts]
    tasks: NotRequired[dict[str, TaskScore]]
    performance: Performance | None
