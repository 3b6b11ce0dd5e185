"""What is measured after an edit, and on what: texts, facts, criteria, the optimisation of v*."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from probes import bundled
from probes.request.cases import EditCase, fact
from probes.target_value.hyperparameters import Hyperparameters
from probes.tasks.harness import Tasks
from rome_diagnosis.defaults import GENERATED_TOKENS, PRECISION
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import PERPLEXITY_COLLAPSE

CRomeTarget = Literal["published", "consistent"]

# About 13,000 tokens of the bundled texts: the ratio of two perplexities on the same text is then
# known to a fraction of a per cent.
MOST_TEXTS = 100


@dataclass(frozen=True)
class Texts:
    """The text set that perplexity is measured on.

    Attributes:
        source: What results call it.
        texts: The texts.
        forced: Whether all of them are measured, rather than as many as settle the outcome.
    """

    source: str
    texts: tuple[str, ...]
    forced: bool = False

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None = None, *, limit: int | None = None) -> Texts:
        """Reads a text set, or takes the packaged held-out one.

        Args:
            path: A file of texts; see :class:`probes.text.documents.Documents`.
            limit: Measure exactly the first N texts; ``None`` measures as many of the first
                :data:`MOST_TEXTS` as settle the outcome.

        Returns:
            The texts.

        Raises:
            UserError: If they cannot be read, or the limit is below 1.
        """
        from probes.text.documents import read_texts

        if limit is not None and limit < 1:
            raise UserError(f"the number of texts must be 1 or more, not {limit}")
        most = MOST_TEXTS if limit is None else limit
        texts = bundled.texts()[:most] if path is None else read_texts(path, limit=most)
        source = "packaged held-out texts" if path is None else Path(path).name
        return cls(source, tuple(texts), forced=limit is not None)

    @classmethod
    def given(cls, texts: Sequence[str]) -> Texts:
        """Texts that a caller hands over: all of them are measured."""
        return cls("given", tuple(texts), forced=True)

    @property
    def digest(self) -> str:
        """Identifies the texts."""
        return digest(self.texts)


@dataclass(frozen=True)
class Facts:
    """Facts among which those that the unedited model gives are asked again after each edit.

    Attributes:
        source: What results call them.
        cases: The facts.
    """

    source: str
    cases: tuple[EditCase, ...]

    @property
    def digest(self) -> str:
        """Identifies the facts."""
        return digest([case.digest for case in self.cases])

    @classmethod
    def for_model(cls, name: str) -> Facts:
        """The facts a model may know: the bundled world's for its own model, common ones else.

        Args:
            name: The model's name.

        Returns:
            The facts.
        """
        if name == "bundled":
            records, source = bundled.facts(), "facts of the bundled world"
        else:
            records, source = bundled.common_facts(), "packaged common facts"
        return cls(source, tuple(fact(record) for record in records))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Facts:
        """Reads facts from a file of edits; their true objects are what is asked for.

        Raises:
            UserError: If it cannot be read, or no record has a true object.
        """
        from probes.request.records import rows

        cases, problem = [], "it is empty"
        for row in rows(path):
            try:
                if row.error is not None:
                    raise UserError(row.error)
                cases.append(fact(row.record))
            except UserError as error:
                problem = f"{row.place}: {error}"
        if not cases:
            raise UserError(f"{path} holds no facts: {problem}")
        return cls(Path(path).name, tuple(cases))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all edits of a run have in common, beside the model and its contexts.

    Attributes:
        hyperparameters: Hyper-parameters of the optimisation of v*.
        c_rome_target: ``published`` keeps v* = v_u + δ for editors that subtract v̄ too;
            ``consistent`` takes v̄ + δ for them, so that δ = 0 edits nothing.
        collapse_ratio: The perplexity ratio at and above which a model counts as collapsed.
        precision: Relative half width of the perplexity ratio's interval at which texts suffice.
        texts: Texts for perplexity.
        facts: Facts for recall; ``None`` chooses by the model.
        generated_tokens: Length of generated texts.
        tasks: Downstream tasks; ``None`` asks none.
    """

    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    c_rome_target: CRomeTarget = "published"
    collapse_ratio: float = PERPLEXITY_COLLAPSE.value
    precision: float = PRECISION
    texts: Texts = field(default_factory=Texts.read)
    facts: Facts | None = None
    generated_tokens: int = GENERATED_TOKENS
    tasks: Tasks | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            UserError: Naming the first mistake.
        """
        if self.generated_tokens < 1:
            raise UserError(
                f"the generated texts need a token or more, not {self.generated_tokens}"
            )
        if not (self.collapse_ratio > 1 and math.isfinite(self.collapse_ratio)):
            raise UserError(f"the collapse criterion must be above 1, not {self.collapse_ratio:g}")
        if not (self.precision > 0 and math.isfinite(self.precision)):
            raise UserError(f"the precision must be above 0, not {self.precision:g}")

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON object; texts and facts are described apart."""
        return {
            "hyperparameters": asdict(self.hyperparameters),
            "c_rome_target": self.c_rome_target,
            "collapse_ratio": self.collapse_ratio,
            "precision": None if self.texts.forced else self.precision,
            "generated_tokens": self.generated_tokens,
        }


def digest(value: Any) -> str:
    """Identifies a JSON value, in 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
