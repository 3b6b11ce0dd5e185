"""A run of one or many edits: what it rests on, its order, and the document it makes.

The edits of a list are optimised in chunks of fixed composition and measured one by one; each
result goes to a journal as soon as it is known. A run that was killed therefore goes on where it
stopped, and what it ends with is the same to the last digit.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diag.judgement import limits
from diag.verify import groups, key_map
from diag.verify.behaviour import KNOWN_FACTS
from diag.verify.one_edit import ARMS, GENERATED_TOKENS, Bench, CRomeTarget, Settings
from diag.verify.result import Comparison, Verification
from probes import bundled
from probes.edited.perplexity import read_texts
from probes.edited.weights import save_edited
from probes.model.loaded import LoadedModel, describe
from probes.request import prefixes as contexts
from probes.request.cases import Cases, EditCase, from_record
from probes.second_moment.moment import SecondMoment
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import TargetValue
from rome_diagnosis import command
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError
from rome_diagnosis.journal import Journal

SCHEMA = "diag.verify/1"
CHUNK = 16  # edits handed to the optimiser together


@dataclass(frozen=True)
class Texts:
    """The text set perplexity is measured on.

    Attributes:
        source: What to call it in results.
        texts: The texts.
    """

    source: str
    texts: tuple[str, ...]

    @classmethod
    def read(cls, path: str | None = None, *, limit: int | None = None) -> Texts:
        """Reads a text set, or takes the bundled held-out one.

        Args:
            path: See :func:`probes.edited.perplexity.read_texts`.
            limit: At most the first so many.

        Returns:
            The texts.

        Raises:
            UserError: If they cannot be read.
        """
        if limit is not None and limit < 1:
            raise UserError(f"the number of texts must be 1 or more, not {limit}")
        found = bundled.texts() if path is None else read_texts(path)
        source = "bundled held-out texts" if path is None else Path(path).name
        return cls(source, tuple(found[:limit]))

    @property
    def digest(self) -> str:
        """Identifies the texts."""
        return hashlib.sha256(json.dumps(self.texts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Trial:
    """A prepared run.

    Attributes:
        bench: The model and everything that is measured on it.
        head: What every document of the run says about it.
    """

    bench: Bench
    head: Mapping[str, Any]

    def one(self, case: EditCase, *, command_line: str | None = None) -> Verification:
        """Performs one edit.

        Args:
            case: The edit.
            command_line: What repeats it.

        Returns:
            The result.

        Raises:
            UserError: If the edit cannot be performed.
        """
        (target,) = self.bench.target_values([case])
        found = self.bench.measure(case, target)
        return Verification(_plain({**self.head, "command": command_line, **found}))

    def save_model(self, case: EditCase, variant: str, directory: str) -> None:
        """Writes the model one edit makes, for Hugging Face ``from_pretrained``.

        Args:
            case: The edit.
            variant: Which of its updates.
            directory: Where to; must not exist yet.

        Raises:
            UserError: If the edit cannot be performed or the directory not be written.
        """
        (target,) = self.bench.target_values([case])
        change = self.bench.factors(case, target)[variant]
        save_edited(self.bench.model, [change], self.bench.layer, directory)

    def many(
        self,
        cases: Cases,
        *,
        journal: str | None = None,
        progress: Callable[[int], None] | None = None,
        command_line: str | None = None,
    ) -> Comparison:
        """Performs a list of edits, one at a time, and compares groups of them.

        Args:
            cases: The edits.
            journal: File that results go to as they come; an interrupted run goes on from it. It
                stays: whoever saves the result removes it.
            progress: Called with the number of edits done, at the start and after each.
            command_line: What repeats the run.

        Returns:
            The result.

        Raises:
            UserError: If the journal cannot be used, or not one edit can be performed.
        """
        created = str(self.head["created"])
        if journal is None:
            edits = self._edits(cases.found, {}, lambda _, __: None, progress)
        else:
            with Journal(journal, self._identity(cases.found)) as kept:
                if "created" not in kept.done:
                    kept.add("created", created)
                created = kept.done["created"]
                edits = self._edits(cases.found, kept.done, kept.add, progress)
        document = {
            **self.head,
            "created": created,
            "command": command_line,
            "edits": edits,
            "refused": [asdict(refused) for refused in cases.refused],
        }
        bench = self.bench
        document["projections"] = key_map.place(
            bench.model, bench.layer, bench.settings.prefixes, bench.moment, edits,
            seed=bench.settings.seed,
        )  # fmt: skip
        return Comparison(_plain(document | self._compare(edits)))

    def _edits(
        self,
        cases: Sequence[EditCase],
        done: Mapping[str, Any],
        keep: Callable[[str, Any], None],
        progress: Callable[[int], None] | None,
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for start in range(0, len(cases), CHUNK):
            chunk = cases[start : start + CHUNK]
            keys = [f"{start + i}:{case.digest}" for i, case in enumerate(chunk)]
            # Rounding depends on what else is in a batch, so a chunk is optimised whole or not.
            targets = None if all(key in done for key in keys) else self._targets(chunk)
            for i, (key, case) in enumerate(zip(keys, chunk, strict=True)):
                if progress:
                    progress(len(found))
                if key in done:
                    found.append(done[key])
                    continue
                assert targets is not None
                found.append(_plain(self._measure(case, targets[i])))
                keep(key, found[-1])
        if progress:
            progress(len(found))
        return found

    def _targets(self, chunk: Sequence[EditCase]) -> list[TargetValue | UserError]:
        """v* of each, or why there is none."""
        try:
            return list(self.bench.target_values(chunk))
        except UserError as error:
            if len(chunk) == 1:
                return [error]
            return [target for case in chunk for target in self._targets([case])]

    def _measure(self, case: EditCase, target: TargetValue | UserError) -> dict[str, Any]:
        edit = case.request
        try:
            if isinstance(target, UserError):
                raise target
            return self.bench.measure(case, target)
        except UserError as error:
            return {
                "request": {"subject": edit.subject, "prompt": edit.prompt}
                | {"case_id": case.case_id, "group": case.group},
                "error": str(error),
            }

    def _compare(self, edits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        performed = [edit for edit in edits if "error" not in edit]
        if not performed:
            raise UserError(f"not one edit could be performed: {edits[0]['error']}")
        seed = self.bench.settings.seed
        compared = {
            by: groups.compare(performed, by=by, seed=seed) for by in ("collapse", "first_token")
        }
        if any(edit["request"]["group"] for edit in performed):
            compared["record"] = groups.compare(performed, by="record", seed=seed)
        return {
            "groups": compared,
            "summary": {
                "n": len(performed),
                "n_errors": len(edits) - len(performed),
                "collapse_ratio": self.bench.settings.collapse_ratio,
                "collapsed": {
                    arm: sum(edit["collapsed"][arm] for edit in performed) for arm in ARMS
                },
                "rescue": groups.rescue(performed),
                "damage_against_perplexity": groups.damage_against_perplexity(performed)
                | {"pooled": groups.damage_against_perplexity(performed, tuple(EDITORS))},
            },
        }

    def _identity(self, cases: Sequence[EditCase]) -> dict[str, Any]:
        """Everything the results depend on: a journal of another run must not be continued."""
        of_cases = hashlib.sha256("".join(case.digest for case in cases).encode())
        return {
            name: value
            for name, value in self.head.items()
            if name not in ("created", "version", "versions")
        } | {"edits": of_cases.hexdigest()[:16]}


def prepare(
    model: LoadedModel,
    layer: int,
    moment: SecondMoment,
    *,
    prefixes: Sequence[str] | None,
    n_prefixes: int,
    seed: int,
    hyperparameters: Hyperparameters,
    c_rome_target: CRomeTarget,
    collapse_ratio: float,
    texts: Texts,
    known: Sequence[EditCase] | None = None,
    generated_tokens: int = GENERATED_TOKENS,
) -> Trial:
    """Measures the unedited model and makes it ready for edits.

    Args:
        model: The loaded model, float32.
        layer: The edited block.
        moment: Second moment of its keys.
        prefixes: Contexts 1…n; ``None`` samples them.
        n_prefixes: How many to sample.
        seed: Of all sampling.
        hyperparameters: Of the optimisation of v*.
        c_rome_target: See :class:`diag.verify.one_edit.Settings`.
        collapse_ratio: The criterion on the perplexity ratio.
        texts: For perplexity.
        known: Facts to choose those from whose recall is measured; the bundled world's if ``None``.
        generated_tokens: Length of the generated texts.

    Returns:
        The run.

    Raises:
        UserError: If weights, texts or contexts cannot be used.
    """
    if generated_tokens < 1:
        raise UserError(f"the generated texts need a token or more, not {generated_tokens}")
    if not collapse_ratio > 1:
        raise UserError(f"the collapse criterion must be above 1, not {collapse_ratio:g}")
    taken = (
        contexts.sample(model, n=n_prefixes, seed=seed)
        if prefixes is None
        else contexts.given(prefixes)
    )
    settings = Settings(
        prefixes=tuple(taken),
        unseen_prefix=_unseen_prefix(model, taken, seed),
        hyperparameters=hyperparameters,
        c_rome_target=c_rome_target,
        collapse_ratio=collapse_ratio,
        seed=seed,
        generated_tokens=generated_tokens,
    )
    if known is None:
        known = [from_record(fact) for fact in bundled.facts()]
    bench = Bench(model, layer, moment, settings, texts=texts.texts, known=known)
    before = bench.texts.before
    head = {
        "schema": SCHEMA,
        "version": command.package_version(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "transformer-lens")},
        },
        "command": None,
        "model": describe(model),
        "site": {"layer": layer, "hook": model.hook(layer, "key")},
        "contexts": {
            "seed": seed if prefixes is None else None,
            "sampled": prefixes is None,
            "n": len(taken),
        },
        "second_moment": moment.describe(),
        "settings": settings.to_json(),
        "limits": limits.of_verdicts(),
        "texts": {"source": texts.source, "digest": texts.digest, **before.to_json()},
        "known_facts": {"n": bench.recall.n, "tried": min(len(known), 4 * KNOWN_FACTS)},
    }
    return Trial(bench, _plain(head))


def _unseen_prefix(model: LoadedModel, taken: Sequence[str], seed: int) -> str:
    """A prefix from another seed than the edit's, and not among them."""
    for other in range(seed + 1, seed + 11):
        (text,) = contexts.sample(model, n=1, seed=other)
        if text not in taken:
            return text
    return "Meanwhile. "


def _plain(document: Mapping[str, Any]) -> dict[str, Any]:
    """Through JSON and back, so that what is in memory is what is on disk to the last type."""
    plain: dict[str, Any] = json.loads(command.dumps(document))
    return plain
