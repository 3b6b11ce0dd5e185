"""A run of one or many edits: what it rests on, its order, and the document it makes.

The edits of a list are optimised in chunks of fixed composition and measured one by one; each
result goes to a journal as soon as it is known. A run that was killed therefore resumes where it
stopped, and what it ends with is the same to the last digit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diag.judgement.outcome import OUTCOMES
from diag.surrogate.collect import points
from diag.surrogate.run import related
from diag.verify import groups, key_map
from diag.verify.one_edit import Bench
from diag.verify.result import Comparison, Verification
from diag.verify.settings import Settings
from probes.edited.weights import save_edited
from probes.model.loaded import describe_model
from probes.request.cases import EditCase
from probes.request.records import Edits
from probes.setup import Prepared
from probes.target_value.optimise import TargetValue
from rome_diagnosis import envelope, limits
from rome_diagnosis.disk.journal import Journal
from rome_diagnosis.editors import ARMS, EDITORS
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import FEWEST_TOKENS
from rome_diagnosis.progress import stages

SCHEMA = "diag.verify/1"
CHUNK = 16  # edits handed to the optimiser together


@dataclass(frozen=True)
class Verifier:
    """A prepared run.

    Attributes:
        bench: The model and everything that is measured on it.
        head: What every document of the run says about it.
        quiet: Show no progress of a single edit.
    """

    bench: Bench
    head: Mapping[str, Any]
    quiet: bool = True

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
        with stages(f"editing {case.request.subject}", quiet=self.quiet) as stage:
            stage("optimising its value v*")
            (target,) = self.bench.target_values([case])
            measured = self.bench.measure(case, target, stage=stage)
        head = {**self.head, "command": command_line}
        return Verification(envelope.plain({**head, **measured}))

    def save_model(self, case: EditCase, editor: str, directory: str) -> None:
        """Writes the model one edit makes, for Hugging Face ``from_pretrained``.

        Args:
            case: The edit.
            editor: Name of the editor whose update is written.
            directory: Where to; must not exist yet.

        Raises:
            UserError: If the edit cannot be performed or the directory not be written.
        """
        (target,) = self.bench.target_values([case])
        change = self.bench.factors(self.bench.observe(case), target)[editor]
        save_edited(self.bench.model, [change], self.bench.layer, directory)

    def many(
        self,
        listed: Edits,
        *,
        journal: str | None = None,
        progress: Callable[[int], None] | None = None,
        command_line: str | None = None,
    ) -> Comparison:
        """Performs a list of edits, one at a time, and compares groups of them.

        Args:
            listed: The edits, and the records that are none.
            journal: File that results go to as they come; an interrupted run resumes from it. It
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
            edits = self._edits(listed.cases, {}, lambda _, __: None, progress)
        else:
            with Journal(journal, self._identity(listed.cases)) as kept:
                if "created" not in kept.done:
                    kept.add("created", created)
                created = kept.done["created"]
                edits = self._edits(listed.cases, kept.done, kept.add, progress)
        document = {
            **self.head,
            "created": created,
            "command": command_line,
            "edits": edits,
            "refused": [asdict(refused) for refused in listed.refused],
            "notes": [*self.head["notes"], *listed.notes],
        }
        bench = self.bench
        document["projections"] = key_map.place(
            bench.model, bench.layer, bench.prefixes, bench.moment, edits, seed=bench.seed,
        )  # fmt: skip
        return Comparison(envelope.plain(document | self._compare(edits)))

    def _edits(
        self,
        cases: Sequence[EditCase],
        done: Mapping[str, Any],
        keep: Callable[[str, Any], None],
        progress: Callable[[int], None] | None,
    ) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = []
        for start in range(0, len(cases), CHUNK):
            chunk = cases[start : start + CHUNK]
            keys = [f"{start + i}:{case.digest}" for i, case in enumerate(chunk)]
            # Rounding depends on what else is in a batch, so a chunk is optimised whole or not.
            targets = None if all(key in done for key in keys) else self._targets(chunk)
            for i, (key, case) in enumerate(zip(keys, chunk, strict=True)):
                if progress:
                    progress(len(results))
                if key in done:
                    results.append(done[key])
                    continue
                assert targets is not None
                results.append(envelope.plain(self._measure(case, targets[i])))
                keep(key, results[-1])
        if progress:
            progress(len(results))
        return results

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
        seed = self.bench.seed
        compared = {
            by: groups.compare_groups(performed, by=by, seed=seed)
            for by in ("collapse", "first_token")
        }
        if any(edit["request"]["group"] for edit in performed):
            compared["record"] = groups.compare_groups(performed, by="record", seed=seed)
        return {
            "groups": compared,
            "summary": {
                "n": len(performed),
                "n_errors": len(edits) - len(performed),
                "collapse_ratio": self.bench.settings.collapse_ratio,
                "collapsed": {
                    arm: sum(edit["collapsed"][arm] for edit in performed) for arm in ARMS
                },
                "outcomes": {
                    arm: {
                        name: sum(edit["outcome"][arm] == name for edit in performed)
                        for name in OUTCOMES
                    }
                    for arm in ARMS
                },
                "rescue": groups.rescue(performed),
                "damage_against_perplexity": groups.damage_against_perplexity(performed)
                | {"pooled": groups.damage_against_perplexity(performed, tuple(EDITORS))},
                "response_against_locality": groups.response_against_locality(performed),
                **self._surrogate(performed),
            },
        }

    def _surrogate(self, performed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """How perplexity goes with downstream tasks, where they were asked."""
        if self.bench.tasks is None:
            return {}
        name = self.bench.model.name
        task_points = list(points({"schema": SCHEMA, "model": {"name": name}, "edits": performed}))
        return {"surrogate": envelope.finite(related(task_points, seed=self.bench.seed))}

    def _identity(self, cases: Sequence[EditCase]) -> dict[str, Any]:
        """Everything the results depend on: a journal of another run must not be continued."""
        of_cases = hashlib.sha256("".join(case.digest for case in cases).encode())
        return {
            name: value
            for name, value in self.head.items()
            if name not in ("created", "version", "versions")
        } | {"edits": of_cases.hexdigest()[:16], "fewest_tokens": FEWEST_TOKENS.value}


def prepare(setup: Prepared, settings: Settings, *, quiet: bool = True) -> Verifier:
    """Measures the unedited model and makes it ready for edits.

    Args:
        setup: Model, layer, contexts and second moment.
        settings: What is measured, and on what.
        quiet: Show no progress.

    Returns:
        The run.

    Raises:
        UserError: If weights, texts or facts cannot be used.
    """
    bench = Bench(setup, settings, quiet=quiet)
    head = {
        **envelope.head(SCHEMA, None),
        "model": describe_model(setup.model),
        "site": {"layer": setup.layer, "hook": setup.model.hook(setup.layer, "key")},
        "contexts": {
            "seed": setup.seed if setup.sampled else None,
            "sampled": setup.sampled,
            "n": len(setup.prefixes),
        },
        "second_moment": setup.moment.describe(setup.model.computed_in),
        "settings": {
            "prefixes": list(setup.prefixes),
            "unseen_prefix": bench.wordings["unseen_prefix"],
            "seed": setup.seed,
            **settings.to_json(),
        },
        "limits": limits.of_verdicts(),
        **bench.measured_on(),
        "notes": list(settings.hyperparameters.notes(setup.model.name)),
    }
    return Verifier(bench, envelope.plain(head), quiet)
