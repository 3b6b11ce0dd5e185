"""From the options to the files: screened, chosen, paired, performed, written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diag.hardcases import card, compose, controls, mine, wordings
from diag.hardcases.cases import Group, HardPair, record
from diag.hardcases.confirm import Wanted, perform_set
from diag.hardcases.result import HardCases
from diag.screen.shard import Screener
from diag.verify import run as verify
from diag.verify.api import with_hyperparameters
from diag.verify.settings import Settings
from probes import bundled
from probes.edited.weights import writable
from probes.keys.many_edits import SharedPrefixes
from probes.model.loaded import describe_model
from probes.setup import Prepared, Setup
from rome_diagnosis import envelope, limits
from rome_diagnosis.disk import files
from rome_diagnosis.disk.journal import Journal
from rome_diagnosis.errors import UserError
from rome_diagnosis.source import check_regular

SCHEMA = "diag.hardcases/1"
OURS = "MIT, as this package"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class HardCasePlan:
    """What set is wanted.

    Attributes:
        output: The records' file.
        datasets: Data sets to mine; none composes.
        wordings: Facts whose prompts and objects are composed with; ``None`` for the packaged.
        n: At most this many hard edits.
        wanted: How many are performed.
        licence: Licence of the files that are given, as their user states it.
        command_line: What repeats it.
    """

    output: str
    datasets: tuple[str, ...]
    wordings: str | None
    n: int
    wanted: Wanted
    licence: str | None
    command_line: str | None

    def __post_init__(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            UserError: Naming the first mistake.
        """
        if self.output == files.STANDARD_OUTPUT or files.is_stream(self.output):
            raise UserError(f"cannot write {self.output}: the records need a regular file")
        if self.n < 1:
            raise UserError(f"the number of hard edits must be 1 or more, not {self.n}")
        if not 0 <= self.wanted.precision < 1:
            raise UserError(f"the precision must be from 0 to 1, not {self.wanted.precision:g}")
        if self.wanted.at_most < 0:
            raise UserError(f"the edits performed must be 0 or more, not {self.wanted.at_most}")
        if self.datasets and self.wordings is not None:
            raise UserError("wordings are for composing: data sets bring their own")

    @property
    def journal(self) -> str:
        """Where results of performed edits go as they come."""
        return f"{self.output}.journal"

    @property
    def inputs(self) -> list[str]:
        """The files that are read."""
        return [*self.datasets, *([self.wordings] if self.wordings else [])]


@dataclass(frozen=True)
class HardSet:
    """A set before any of it is performed, and how it was made.

    Attributes:
        pairs: Hard edits and controls.
        described: What the card says of how it was made.
    """

    pairs: list[HardPair]
    described: dict[str, Any]


def prepare(plan: HardCasePlan, setup: Setup, settings: Settings) -> Prepared:
    """Loads the model and finds everything else.

    Args:
        plan: What is wanted.
        setup: What to measure with.
        settings: Whose hyper-parameters choose what the setup leaves open.

    Returns:
        Model, layer, contexts and second moment.

    Raises:
        UserError: If something cannot be read or loaded, or the model's weights cannot be edited.
    """
    for path in plan.inputs:
        check_regular(path, "the edits")  # said before a model is loaded
    setup = with_hyperparameters(setup, settings.hyperparameters)
    if plan.wanted.at_most:
        model = setup.load()
        writable(model, setup.choose_layer(model))
    return setup.prepare()


def run(
    plan: HardCasePlan,
    setup: Prepared,
    settings: Settings,
    *,
    progress: Progress = lambda done, total: None,
    performing: Callable[[int], None] = lambda done: None,
) -> HardCases:
    """Makes a set of hard edits and writes it.

    Args:
        plan: What is wanted.
        setup: Model, layer, contexts and second moment.
        settings: How edits are performed.
        progress: Called with the edits screened and all of them.
        performing: Called with the edits performed.

    Returns:
        The records' file and the card.

    Raises:
        UserError: If there are no hard edits, or a file cannot be written.
    """
    shared = SharedPrefixes(setup.model, setup.layer, setup.prefixes)
    screener = Screener(
        shared, setup.moment, hyperparameters=settings.hyperparameters, seed=setup.seed
    )
    case_set = (_mined if plan.datasets else _composed)(plan, screener, progress)
    if not case_set.pairs:
        raise UserError(
            f"no edit is hard for {setup.model.name} at block {setup.layer}: of "
            f"{case_set.described['screened']:,} screened none has a damage risk; try another "
            "block (diag.keys --layer all shows which)"
        )
    performed, measured = _performed(plan, setup, settings, case_set.pairs, performing)
    lines = _records(case_set.pairs, performed)
    files.write_text(plan.output, "[\n" + ",\n".join(lines) + "\n]\n")
    document = {
        **envelope.head(SCHEMA, plan.command_line),
        **measured,
        "model": describe_model(setup.model),
        "site": {"layer": setup.layer, "hook": setup.model.hook(setup.layer, "key")},
        "contexts": {
            "seed": setup.seed if setup.sampled else None,
            "sampled": setup.sampled,
            "n": len(setup.prefixes),
        },
        "second_moment": setup.moment.describe(setup.model.computed_in),
        "clamp_factor": settings.hyperparameters.clamp_norm_factor,
        "limits": limits.of_verdicts(),
        "file": Path(plan.output).name,
        "seed": setup.seed,
        **case_set.described,
        **card.of_set(case_set.pairs, performed),
    }
    return HardCases(plan.output, envelope.plain(document))


def _mined(plan: HardCasePlan, screener: Screener, progress: Progress) -> HardSet:
    cases: list[mine.RelatedEdit] = []
    n_refused, notes = 0, list[str]()
    for path in plan.datasets:
        of_file, refused, file_notes = mine.read_candidates(path)
        cases += of_file
        n_refused += refused
        notes += file_notes
    rows = mine.screened(screener, cases, progress)
    hard = mine.hardest(rows, plan.n)
    hard_rows = [row for row in rows if row is not None and row.is_hard]
    described = {
        "made": "mined",
        "sources": [asdict(card.Source.of(path, plan.licence)) for path in plan.datasets],
        "screened": sum(row is not None for row in rows),
        "not_screened": n_refused + sum(row is None for row in rows),
        "found": len(hard_rows),
        "found_subjects": len({row.case.request.subject.casefold() for row in hard_rows}),
        "notes": list(dict.fromkeys(notes)),
    }
    return HardSet(
        controls.paired(hard, controls.of_mined(hard, rows), seed=screener.seed), described
    )


def _composed(plan: HardCasePlan, screener: Screener, progress: Progress) -> HardSet:
    path = plan.wordings or str(bundled.facts_path())
    relations = wordings.read_wordings(path)
    composed = compose.compose(screener, relations, plan.n, seed=screener.seed, progress=progress)
    easy = controls.of_composed(screener, composed.hard, relations, seed=screener.seed)
    described = {
        "made": "composed",
        "sources": [asdict(card.Source.of(path, plan.licence if plan.wordings else OURS))],
        "screened": composed.n_edits,
        "not_screened": 0,
        "found": composed.n_edits // composed.n_subjects * composed.n_hard_subjects,
        "found_subjects": composed.n_hard_subjects,
        "notes": [],
    }
    return HardSet(controls.paired(composed.hard, easy, seed=screener.seed), described)


def _performed(
    plan: HardCasePlan,
    setup: Prepared,
    settings: Settings,
    pairs: Sequence[HardPair],
    progress: Callable[[int], None],
) -> tuple[dict[Group, dict[int, Any]], dict[str, Any]]:
    """What became of the model, by group and pair; and on what that was measured."""
    results: dict[Group, dict[int, Any]] = {group: {} for group in card.GROUPS}
    if plan.wanted.at_most == 0:
        return results, {"performing": None}
    bench = verify.prepare(setup, settings)
    performing = asdict(plan.wanted) | {"settings": bench.head["settings"]}
    measured_on = bench.bench.measured_on()
    head = {name: bench.head[name] for name in ("model", "site", "second_moment", "settings")}
    n_done = 0
    with Journal(plan.journal, envelope.plain(head | measured_on)) as kept:
        for group in card.GROUPS:
            edits = {i: edit for i, pair in enumerate(pairs) if (edit := pair.of(group))}
            cases = [edit.case for edit in edits.values()]
            done = perform_set(bench, cases, plan.wanted, kept, partial(_further, progress, n_done))
            n_done += len(done)
            places = list(edits)
            results[group] = {places[i]: result for i, result in done.items()}
    return results, measured_on | {"performing": performing}


def _further(progress: Callable[[int], None], before: int, n: int) -> None:
    progress(before + n)


def _records(pairs: Sequence[HardPair], performed: card.Performed) -> list[str]:
    """The records as lines of JSON; what performing refuted is left out."""
    lines = []
    for i, pair in enumerate(pairs):
        for group in card.GROUPS:
            edit, result = pair.of(group), performed[group].get(i)
            if edit is None or card.is_refuted(group, result):
                continue
            case = replace(edit.case, case_id=f"{group}-{i:05d}", group=group)
            written = record(replace(edit, case=case), i, pair.split, result)
            lines.append(json.dumps(envelope.finite(written), ensure_ascii=False))
    return lines
