"""lm-evaluation-harness on the model in memory: its class for Hugging Face models, its numbers.

What its own command does after loading model and tasks is done here with our model object, so that
the scores are the harness's by construction. A task's score is the first of its metrics of which
more is better.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.tasks import files
from rome_diagnosis.disk.files import expanded
from rome_diagnosis.errors import UserError
from rome_diagnosis.text import line

if TYPE_CHECKING:
    from probes.model.loaded import LoadedModel

BUNDLED = "bundled"
OWN = Path(__file__).parent / "bundled"
INSTALL = "pip install 'rome-diagnosis[tasks]'"
DATA = (".jsonl", ".jsonl.gz", ".json", ".ndjson")
TASK_FILES = (".yaml", ".yml")
NAME = re.compile(r"[\w.,:+-]{1,100}")  # what a task of the harness may be called
BATCH = 16
DRAWS = 100  # of the harness's bootstrap, for metrics that are no mean
SEED = 1234  # the harness's default for few-shot examples


@dataclass(frozen=True)
class TaskScore:
    """What a model scores in a task.

    Attributes:
        metric: The metric, as the harness calls it.
        value: The score.
        stderr: Its standard error over documents; ``None`` where the harness has none.
        n: Number of documents.
        documents: The metric of each document; empty where the score is not their mean.
        others: Further metrics, each with value and standard error.
    """

    metric: str
    value: float
    stderr: float | None
    n: int
    documents: tuple[float, ...]
    others: Mapping[str, tuple[float, float | None]]

    def describe(self) -> dict[str, Any]:
        """The score as documents hold it."""
        return {
            "score": self.value,
            "stderr": self.stderr,
            "metric": self.metric,
            "n": self.n,
            "others": {
                name: {"score": value, "stderr": stderr}
                for name, (value, stderr) in self.others.items()
            },
        }


@dataclass(frozen=True)
class Tasks:
    """Tasks, loaded.

    Attributes:
        loaded: The harness's tasks, by name.
        limit: Ask only the first N documents of each; ``None`` for all.
    """

    loaded: Mapping[str, Any]
    limit: int | None = None

    @classmethod
    def read(cls, names: str | Sequence[str] = BUNDLED, *, limit: int | None = None) -> Tasks:
        """Loads tasks; what is bundled or a file of JSON Lines needs no network.

        Args:
            names: One or several of: ``bundled``, names that the harness knows, task files (JSON
                Lines or the harness's YAML), directories of them.
            limit: Ask only the first N documents of each.

        Returns:
            The tasks.

        Raises:
            UserError: If the harness is not installed, a task cannot be loaded, or the limit is
                below 1.
        """
        if limit is not None and limit < 1:
            raise UserError(f"the number of documents must be 1 or more, not {limit}")
        return cls(_load([names] if isinstance(names, str) else names), limit)


def _load(names: Sequence[str]) -> dict[str, Any]:
    with _harness():
        specs = [spec for name in names for spec in _specs(name)]
        named = [spec for spec in specs if isinstance(spec, str) and not os.path.isfile(spec)]
        # What no task can be called is refused before the harness lists its thousands.
        unknown = next((name for name in named if not NAME.fullmatch(name)), None)
        if unknown is None:
            known = _manager(bool(named)).task_index
            unknown = next((name for name in named if name not in known), None)
        if unknown is not None:
            raise UserError(
                f"there is no task {line(unknown)!r}: give {BUNDLED}, a file of JSON Lines, a "
                "YAML task file, or a name that python -m lm_eval ls tasks lists"
            )
        loaded: dict[str, Any] = {}
        manager = _manager(bool(named))
        for spec in specs:
            name = spec["task"] if isinstance(spec, dict) else spec
            try:
                tasks = manager.load([spec])["tasks"]
            # Whatever a task's data, files and code raise.
            except Exception as error:
                raise UserError(f"cannot load the task {line(name)}: {_first(error)}") from error
            twice = next(iter(tasks.keys() & loaded.keys()), None)
            if twice is not None:
                raise UserError(f"two tasks are called {twice}: results could not tell them apart")
            loaded |= tasks
    for task in loaded.values():  # as the harness's command does it
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=SEED)
    return loaded


@lru_cache(maxsize=2)
def _manager(of_the_harness: bool) -> Any:
    """Loads tasks, by the names that come with the harness too; listing those takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=of_the_harness)


def _specs(name: str) -> list[str | dict[str, Any]]:
    """What the harness loads under a name: its own names, YAML files, configurations."""
    if name == BUNDLED:
        return [str(path) for path in sorted(OWN.glob("*.yaml"))]
    path, ending = expanded(name), name.lower()
    if os.path.isdir(path):
        inside = [str(each) for each in sorted(path.iterdir())]
        inside = [each for each in inside if each.lower().endswith((*DATA, *TASK_FILES))]
        if not inside:
            raise UserError(f"there is no task in {name}: neither JSON Lines nor a YAML task file")
        return [spec for each in inside for spec in _specs(each)]
    if ending.endswith(DATA):
        return [files.read_task_files(path)]
    if ending.endswith(TASK_FILES):
        if not os.path.isfile(path):
            raise UserError(f"there is no task file {name}")
        return [str(path.resolve())]
    return [name]


class Harness:
    """Tasks on one model, scored as often as its weights change."""

    def __init__(self, model: LoadedModel, tasks: Tasks) -> None:
        """Hands the model to the harness; no weight is copied.

        Args:
            model: The model.
            tasks: What it is asked.

        Raises:
            UserError: If texts are to begin with a token that the tokenizer does not put there.
        """
        from probes.forward.unhooked import plain

        own = model.tokenizer("a")["input_ids"][:1] == [model.tokenizer.bos_token_id]
        if model.bos and not own:
            raise UserError(
                "the harness begins texts as the tokenizer does, without a begin-of-sequence "
                "token: leave --bos out"
            )

        self._tasks = tasks
        with _harness():
            from lm_eval.models.huggingface import HFLM

            self._lm = HFLM(
                pretrained=plain(model).model,
                tokenizer=copy.deepcopy(model.tokenizer),  # the harness gives it a padding token
                batch_size=BATCH,
                add_bos_token=model.bos,
            )

    def scores(self, *, quiet: bool = True) -> dict[str, TaskScore]:
        """Scores the model as its weights are now.

        Args:
            quiet: Show no progress bar.

        Returns:
            The score of each task.

        Raises:
            UserError: If the harness cannot run a task.
        """
        with _harness(silent=quiet or not sys.stderr.isatty()):
            from lm_eval.evaluator import evaluate

            try:
                results = evaluate(
                    self._lm,
                    {"tasks": dict(self._tasks.loaded)},
                    limit=self._tasks.limit,
                    bootstrap_iters=DRAWS,
                )
            except (ValueError, RuntimeError, NotImplementedError, AssertionError) as error:
                raise UserError(f"the harness cannot run the tasks: {_first(error)}") from error
        assert results is not None
        return {name: _score(results, name) for name in self._tasks.loaded}


def _score(results: Mapping[str, Any], name: str) -> TaskScore:
    values = results["results"][name]
    keys = [key for key in values if "," in key and "_stderr," not in key]
    better = results["higher_is_better"][name]
    first = next((key for key in keys if better.get(key.partition(",")[0])), keys[0])
    metric, _, chosen = first.partition(",")
    documents = [
        float(sample[metric])
        for sample in results["samples"][name]
        if sample["filter"] == chosen and isinstance(sample[metric], int | float)
    ]
    n = int(results["n-samples"][name]["effective"])
    is_mean = len(documents) == n and abs(sum(documents) / n - values[first]) < 1e-9
    errors = {key: values.get(key.replace(",", "_stderr,", 1)) for key in keys}
    # The harness writes "N/A" where it has none.
    known = {key: float(e) if isinstance(e, int | float) else None for key, e in errors.items()}
    return TaskScore(
        metric=metric,
        value=float(values[first]),
        stderr=known[first],
        n=n,
        documents=tuple(documents) if is_mean else (),
        others={
            key.partition(",")[0]: (float(values[key]), known[key]) for key in keys if key != first
        },
    )


@contextlib.contextmanager
def _harness(*, silent: bool = True) -> Iterator[None]:
    """The harness without its notes and, if wanted, without its progress bars.

    Raises:
        UserError: If it is not installed.
    """
    try:
        import lm_eval  # noqa: F401
        import tqdm
    except ImportError as error:
        raise UserError(
            f"downstream tasks need EleutherAI's lm-evaluation-harness: {INSTALL}"
        ) from error
    logger, bar = logging.getLogger("lm_eval"), tqdm.tqdm.__init__
    level = logger.level
    logger.setLevel(logging.ERROR)
    if silent:  # whatever the call says

        def hidden(self: Any, *arguments: Any, **named: Any) -> None:
            bar(self, *arguments, **named | {"disable": True})

        tqdm.tqdm.__init__ = hidden
    try:
        yield
    finally:
        logger.setLevel(level)
        tqdm.tqdm.__init__ = bar


def _first(error: BaseException) -> str:
    """The first line of what was raised."""
    return line(next(iter(str(error).splitlines()), "") or type(error).__name__)
