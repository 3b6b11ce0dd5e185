"""What one arm of a performed edit is measured by: weights, damage, perplexity, answers."""

from typing import NotRequired

from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.values import Count, Number, Pair, Positive, Share, Size
from rome_diagnosis.schema.tasks import TaskChange


class ArmDamage(TypedDict):
    """The damage of a performed edit: root-mean-square change over corpus tokens.

    Attributes:
        predicted: In closed form, of the MLP's output; null without a corpus moment.
        measured: Measured on the text set, of the MLP's output; null where it overflowed.
        relative: ``predicted`` for the residual stream, in units of its median norm after the
            block; null where it could not be checked.
        relative_first_tokens: The same at first tokens of other texts; null without a sample.
        measured_relative: ``measured`` in the same units.
        not_checked: Why a figure is null; null where none is.
    """

    predicted: Size | None
    measured: Size | None
    relative: Size | None
    relative_first_tokens: NotRequired[Size | None]
    measured_relative: Size | None
    not_checked: str | None


class BeforeAfter(TypedDict):
    """A perplexity before and after an edit.

    Attributes:
        before: Perplexity of the unedited model.
        after: Perplexity of the edited one; null where it overflowed.
        ratio: ``after`` / ``before``; null where it overflowed.
    """

    before: Positive
    after: Size | None
    ratio: Size | None


class PerplexityChange(BeforeAfter):
    """Perplexity of the text set, weighted by tokens.

    Attributes:
        ratio_interval: 95% interval of the ratio over the draw of the texts; null where too few
            texts were measured.
        text_mean: The mean over texts of each one's perplexity, as the paper takes it.
        n_tokens: Number of predicted tokens.
        n_texts: Number of texts.
        bos: Whether a begin-of-sequence token began every row.
    """

    ratio_interval: NotRequired[Pair | None]
    text_mean: BeforeAfter
    n_tokens: Count
    n_texts: Count
    bos: bool


class AskedFact(TypedDict):
    """Whether the edited fact is given. An answer's probability is its tokens' geometric mean.

    Attributes:
        p_before: Probability of the new object before the edit.
        p_after: The same after it.
        p_true_before: Probability of the true object before the edit; null if none is known.
        p_true_after: The same after it.
        rank_before: Rank of the new object's first token before the edit; 1 is the likeliest.
        rank_after: The same after it.
        top1: Whether greedy decoding gives the new object after the edit.
        success_before: Whether the criterion held before the edit.
        success: Whether it holds after it.
        criterion: What success means.
    """

    p_before: Share
    p_after: Share
    p_true_before: Share | None
    p_true_after: Share | None
    rank_before: Count
    rank_after: Count
    top1: bool
    success_before: bool
    success: bool
    criterion: str


class Efficacy(AskedFact):
    """The same with what the model writes.

    Attributes:
        generated: What the edited model generates, greedily.
        generated_before: What the unedited model generates.
        generated_success: Whether the generated text begins with the new object.
    """

    generated: str
    generated_before: str
    generated_success: bool


class ShareChange(TypedDict):
    """A share of prompts before and after an edit.

    Attributes:
        before: With the unedited model.
        after: With the edited one.
        n: Number of prompts.
    """

    before: Share
    after: Share
    n: Count


class Locality(TypedDict):
    """What became of neighbouring facts.

    Attributes:
        before: Share whose own object is likelier than the new one; null if it is not known.
        after: The same after the edit.
        unchanged: Share whose likeliest answer is what it was.
        n: Number of neighbouring facts.
    """

    before: Share | None
    after: Share | None
    unchanged: Share
    n: Count


class Entropy(TypedDict):
    """Entropy of generated text's bigrams and trigrams, in bits; low means repetitive.

    Attributes:
        before: Entropy of the unedited model's text, in bits.
        after: Entropy of the edited model's text, in bits.
    """

    before: Number
    after: Number


class TestResponse(TypedDict):
    """φ at the prompts that test an edit: the share of its change they receive, by their keys.

    Attributes:
        paraphrases: Over the paraphrases the median of the largest |φ| at a token of the prompt;
            null without any.
        neighbours: The same over neighbouring facts' prompts.
    """

    paraphrases: Size | None
    neighbours: Size | None


class Answers(TypedDict):
    """What the model says, under one wording of the test prompts.

    Attributes:
        efficacy: The edited fact itself.
        generalisation: Its paraphrases; null if the record has none.
        locality: Its neighbours; null if the record has none.
        portability: Prompts whose answer follows from the new fact: the share for which greedy
            decoding gives it; null if the record has none.
        response: What share of the change the test prompts receive, known before the edit.
        entropy: Entropy of the generated text, in bits.
        text: Sampled text after the edit, its prompt included.
    """

    efficacy: Efficacy
    generalisation: ShareChange | None
    locality: Locality | None
    portability: NotRequired[ShareChange | None]
    response: NotRequired[TestResponse]
    entropy: Entropy | None
    text: str


class PrefixedAnswers(Answers):
    """Answers with a prefix before every test prompt.

    Attributes:
        prefix: The prefix.
    """

    prefix: str


class PerformedArm(Answers):
    """One way to make and test the edit.

    Attributes:
        denominator: D, signed.
        denominator_normalised: D / ‖u‖.
        numerator_norm: ‖v* − v‖, in units of the MLP's output.
        update_norm: ‖ΔW‖, Frobenius.
        relative_update_norm: ‖ΔW‖ / ‖W‖.
        damage: Predicted and measured.
        perplexity: Perplexity of the text set before and after the edit.
        recall: Facts the unedited model gives, asked again; null if it gives none.
        tasks: What became of downstream tasks, where they were asked.
        prefix: The prefix of the test prompts, in an arm that has one.
        unseen_prefix: The same with a prefix the edit has not seen, in an arm that has one.
    """

    denominator: Number
    denominator_normalised: Number
    numerator_norm: Size
    update_norm: Size
    relative_update_norm: Size
    damage: ArmDamage
    perplexity: PerplexityChange
    recall: ShareChange | None
    tasks: NotRequired[dict[str, TaskChange]]
    prefix: NotRequired[str]
    unseen_prefix: NotRequired[PrefixedAnswers]


class Arms(TypedDict, extra_items=PerformedArm):  # type: ignore[call-arg]
    """The arms, under their names.

    Attributes:
        rome: ROME as published.
        c_rome: C-ROME.
        p_rome: P-ROME.
        c_rome_prefixed: C-ROME's weights, a prefix before the test prompts.
    """

    rome: PerformedArm
    c_rome: PerformedArm
    p_rome: PerformedArm
    c_rome_prefixed: PerformedArm
