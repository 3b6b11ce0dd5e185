"""``diag.tasks/1``: scores in downstream tasks. ``diag.surrogate/1``: perplexity against them."""

from typing import Annotated, Literal

from annotated_types import Len
from typing_extensions import TypedDict

from rome_diagnosis.schema.parts.shared import Head, Limits, Model
from rome_diagnosis.schema.parts.values import (
    Cosine,
    Count,
    Integer,
    Name,
    Number,
    Pair,
    Positive,
    Share,
    Size,
)


class Metric(TypedDict):
    """A score and how well it is known.

    Attributes:
        score: The score.
        stderr: Its standard error over documents; null where there is none.
    """

    score: Number
    stderr: Size | None


class TaskScore(Metric):
    """What a model scores in one task.

    Attributes:
        metric: The metric, as lm-evaluation-harness calls it: the task's first of which more is
            better.
        n: Number of documents.
        others: Further metrics, under their names.
    """

    metric: str
    n: Count
    others: dict[str, Metric]


class TaskChange(TypedDict):
    """One task before and after an edit, on the same documents.

    Attributes:
        metric: The metric, as lm-evaluation-harness calls it.
        before: Score of the unedited model.
        after: Score of the edited one.
        change_stderr: Standard error of the mean difference over documents; null where the score
            is no mean over them.
        n: Number of documents.
    """

    metric: str
    before: Number
    after: Number
    change_stderr: Size | None
    n: Count


class TasksDocument(Head):
    """A model's scores in downstream tasks.

    Attributes:
        schema: ``diag.tasks/1``.
        model: The model.
        limit: Only the first N documents of each task were asked; null for all.
        tasks: The scores, under the tasks' names.
        mean: The mean over tasks; its standard error takes the tasks as given.
    """

    schema: Literal["diag.tasks/1"]
    model: Model
    limit: Count | None
    tasks: dict[str, TaskScore]
    mean: Metric


class EditedModel(TypedDict):
    """One edited model.

    Attributes:
        label: Its edit, or how many were made one after another.
        method: The editor.
        edits: How many edits it had.
        model: What the unedited model is called; null if the result does not say.
        group: Those of one group are no independent draws: editors of one edit, steps of one list.
        ratio: Perplexity after over before; null where it overflowed.
        damage: Closed-form damage over corpus tokens, relative; null where it is unknown.
        damage_first_tokens: The same at first tokens.
        tasks: Change of each task's score.
        change: Change of the mean score.
        change_stderr: Its standard error over documents, tasks as given; null if unknown.
    """

    label: str
    method: Name
    edits: Count
    model: str | None
    group: str
    ratio: Size | None
    damage: Size | None
    damage_first_tokens: Size | None
    tasks: dict[str, Number]
    change: Number
    change_stderr: Size | None


class Related(TypedDict):
    """How the logarithm of a predictor goes with the change of a score; 95 % intervals over groups.

    Attributes:
        n: Number of edited models.
        spearman: Rank correlation; null where nothing varies.
        spearman_interval: Its interval; null where there are too few groups.
        pearson: Linear correlation, over finite values.
        pearson_interval: Its interval.
    """

    n: Count
    spearman: Cosine | None
    spearman_interval: Pair | None
    pearson: Cosine | None
    pearson_interval: Pair | None


class Predictor(TypedDict):
    """One predictor held against tasks.

    Attributes:
        together: Against the mean score over tasks.
        tasks: Against each task.
        auc: Chance that a model whose tasks suffered has more of it than one whose did not; null
            where there is only one kind.
    """

    together: Related
    tasks: dict[str, Related]
    auc: Share | None


class Relations(TypedDict):
    """The predictors.

    Attributes:
        ratio: Perplexity after over before.
        damage: Closed-form damage over corpus tokens.
        damage_first_tokens: Closed-form damage at first tokens.
    """

    ratio: Predictor
    damage: Predictor
    damage_first_tokens: Predictor


class Onset(TypedDict):
    """The smallest perplexity ratio from which on tasks suffer.

    Attributes:
        ratio: Where the monotone curve has fallen by the limit.
        interval: Its 95 % interval over groups; null where most draws have none.
    """

    ratio: Positive
    interval: Pair | None


class HeldAgainstTasks(TypedDict):
    """Perplexity and damage held against tasks.

    Attributes:
        seed: Seed of the bootstrap.
        limits: What was decided by.
        tasks: Names of the tasks.
        points: The edited models.
        relations: Each predictor against tasks.
        curve: Corners of the falling curve of least squares: perplexity ratio, change of the mean.
        onset: From which perplexity ratio on tasks suffer; null where the curve never falls so far.
        silent: Indices of the models whose perplexity stayed below the limit of damage and whose
            tasks suffered, the worst first.
        suffering: How many models' tasks suffered.
    """

    seed: Integer
    limits: Limits
    tasks: Annotated[list[str], Len(1)]
    points: Annotated[list[EditedModel], Len(1)]
    relations: Relations
    curve: list[Pair]
    onset: Onset | None
    silent: list[Count]
    suffering: Count


class SurrogateDocument(Head, HeldAgainstTasks):
    """Perplexity and damage of performed edits, held against downstream tasks.

    Attributes:
        schema: ``diag.surrogate/1``.
    """

    schema: Literal["diag.surrogate/1"]
