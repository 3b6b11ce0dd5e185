r"""What the family's quantities foretell beside what comes, over single edits and batches.

    python -m benchmarks.studies.prediction [--each 50] [--batches 10,50,200] [--journal FILE]
    python -m benchmarks.studies.prediction --model DIR --layers 8 --second-moment FILE \
        --edits FILE … --texts FILE --journal FILE

Performs single edits of first-token and of later subjects by each method, then batches, and holds
response and damage against what came: whether MEMIT does not collapse the model where ROME does,
and fails to take at the bare prompt instead. A run with a journal resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.family import cases, like_published, method
from diag.batch.check import check_batch
from diag.batch.document import of_performed
from diag.batch.measure import BatchBench
from diag.batch.perform import performed, target_values
from diag.batch.run import placeable
from diag.batch.settings import Workplace, prepare_workplace
from diag.verify.one_edit import Bench
from diag.verify.settings import Settings, Texts
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase
from probes.request.lookup import lookup
from probes.request.records import read_edits
from probes.setup import Setup
from probes.statistics import spearman
from probes.target_value.optimise import TargetValue
from rome_diagnosis.disk.journal import Journal
from rome_diagnosis.methods import METHODS

SINGLY = ("memit", "c_rome", "rome", "p_rome", "emmet", "alphaedit", "pmet")
IN_BATCHES = ("memit", "emmet", "alphaedit", "encore", "pmet")
GROUPS = {"first": "first token", "later": "later"}


class Trials:
    """A model on which methods are tried, with what one trial leaves for the next."""

    def __init__(
        self, setup: Setup, layers: Sequence[int], settings: Settings, journal: Journal | None
    ) -> None:
        """Nothing is loaded yet.

        Args:
            setup: The model and its second moments.
            layers: The edited blocks.
            settings: What is measured.
            journal: Trials that are done already, by name; ``None`` keeps nothing.
        """
        self.setup, self.layers, self.settings = setup, layers, settings
        self.journal = journal
        self._benches: dict[Any, Bench] = {}
        self._targets: dict[Any, TargetValue] = {}

    def workplace(self, name: str, layers: Sequence[int]) -> Workplace:
        """The model under a method, λ in proportion to its width."""
        d_mlp = int(self.setup.load().config.d_mlp)
        chosen = method(name, layers, **like_published(d_mlp).get(name, {}))
        return prepare_workplace(self.setup, chosen)

    def perform(self, key: str, workplace: Workplace, some: Sequence[EditCase]) -> dict[str, Any]:
        """What became of the model with some edits, and what was foretold of them.

        Args:
            key: The trial's name in the journal.
            workplace: Where.
            some: The edits, one batch.

        Returns:
            The document's ``performed`` with ``foretold`` beside it.
        """
        if self.journal is not None and key in self.journal.done:
            return dict(self.journal.done[key])
        preflight = check_batch(workplace, [case.request for case in some])
        alike = workplace.layers[0], workplace.prefixes  # one of which is put before the tests
        ready = BatchBench(workplace, some, self.settings, bench=self._benches.get(alike))
        self._benches[alike] = ready.bench
        with performed(
            workplace, [case.request for case in some], targets=self._known(workplace, some)
        ) as batch:
            pass
        shares = {"bare": preflight.bare, "prefixed": preflight.prefixed}
        result = {
            **of_performed(preflight, batch, ready.measure(batch)),
            "foretold": {
                **{
                    name: [None] * len(some) if share is None else share.tolist()
                    for name, share in shares.items()
                },
                "damage": preflight.total("relative_expected"),
                "bound": preflight.total("relative_bound"),
                "condition": max(layer.condition_number for layer in preflight.layers),
            },
        }
        if self.journal is not None:
            self.journal.add(key, result)
        return result

    def _known(self, workplace: Workplace, some: Sequence[EditCase]) -> list[TargetValue]:
        """The targets, each optimised once for all methods that ask for the same one."""
        alike = (
            workplace.layers[-1], workplace.prefixes, workplace.chosen.target,
            workplace.method.sites,
        )  # fmt: skip
        missing = [case for case in some if (alike, case.digest) not in self._targets]
        if missing:
            targets = target_values(workplace, [case.request for case in missing])
            for case, target in zip(missing, targets, strict=True):
                self._targets[alike, case.digest] = target
        return [self._targets[alike, case.digest] for case in some]


def by_group(model: LoadedModel, pool: Iterable[EditCase], each: int) -> dict[str, list[EditCase]]:
    """Edits whose subject begins the prompt, with its last token first or later.

    Args:
        model: Whose tokens count.
        pool: The edits.
        each: How many of each group.

    Returns:
        The first of the pool in each group.
    """
    chosen: dict[str, list[EditCase]] = {name: [] for name in GROUPS}
    for case in pool:
        if case.request.before:
            continue
        name = "first" if lookup(model, case.request).is_first_token else "later"
        if len(chosen[name]) < each:
            chosen[name].append(case)
    return chosen


def singly(trials: Trials, groups: Mapping[str, Sequence[EditCase]], names: Sequence[str]) -> Any:
    """Every method on every edit alone; spread methods also in the lowest block by itself."""
    by_arm: dict[str, Any] = {}
    everything: list[dict[str, Any]] = []
    lowest = trials.layers[:1]
    arms = []
    for name in names:
        spreads = trials.workplace(name, lowest).method.over_layers and len(trials.layers) > 1
        if spreads and name == "memit":
            arms.append((f"{name}, one block", name, lowest))
        arms.append((name, name, trials.layers if spreads else lowest))
    for arm, name, layers in arms:
        workplace = trials.workplace(name, layers)
        for group, some in groups.items():
            if not some:
                continue
            rows = [
                trials.perform(f"{arm}, {group} {i}", workplace, [case])
                for i, case in enumerate(some)
            ]
            by_arm.setdefault(arm, {})[group] = summed(rows)
            everything += rows
            print(arm, group, json.dumps(by_arm[arm][group]), flush=True)
    ranked = ranks(everything)
    print("all of them", json.dumps(ranked), flush=True)
    return {"arms": by_arm, "over_family": ranked}


def in_batches(
    trials: Trials, pool: Sequence[EditCase], sizes: Sequence[int], names: Sequence[str]
) -> Any:
    """Every method on the first edits of a pool at once."""
    by_method: dict[str, Any] = {}
    for n in sizes:
        for name in names:
            workplace = trials.workplace(name, trials.layers)
            row = trials.perform(f"{name}, {n} at once", workplace, pool[:n])
            by_method.setdefault(name, {})[n] = of_batch(row)
            print(name, n, json.dumps(by_method[name][n]), flush=True)
    return by_method


def ranks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Spearman's rank correlations of what was foretold with what came, over single edits."""
    edits = [row["edits"][0] for row in rows]
    shares = {name: [row["foretold"][name][0] for row in rows] for name in ("bare", "prefixed")}
    near = [
        (edit["neighbours_receive"], edit["locality_lost"])
        for edit in edits
        if None not in (edit["neighbours_receive"], edit["locality_lost"])
    ]
    return {
        "n": len(rows),
        "received": spearman(shares["bare"], [edit["received"] for edit in edits]),
        "p_bare": spearman(shares["bare"], [edit["bare"]["p_after"] for edit in edits]),
        "p_prefixed": spearman(
            shares["prefixed"], [edit["editing_prefix"]["p_after"] for edit in edits]
        ),
        "locality_lost": spearman(*zip(*near, strict=True)) if near else None,
        "n_with_neighbours": len(near),
        "perplexity_ratio": spearman(
            [row["foretold"]["damage"] for row in rows], [_ratio(row) for row in rows]
        ),
    }


def _ratio(row: Mapping[str, Any]) -> float:
    ratio = row["perplexity"]["ratio"]
    return float("inf") if ratio is None else float(ratio)


def summed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures over edits that were performed singly."""
    ratios = [_ratio(row) for row in rows]
    kept = [row["bare"]["locality"]["after"] for row in rows if row["bare"]["locality"]]
    return {
        "n": len(rows),
        "collapsed": sum(row["outcome"] == "collapsed" for row in rows),
        "perplexity_ratio_median": statistics.median(ratios),
        "perplexity_ratio_largest": max(ratios),
        "succeed_bare": _share(row["bare"]["success"] for row in rows),
        "succeed_prefixed": _share(row["editing_prefix"]["success"] for row in rows),
        "p_bare": _share(row["bare"]["p_after"] for row in rows),
        "p_prefixed": _share(row["editing_prefix"]["p_after"] for row in rows),
        "neighbours_kept": _share(kept) if kept else None,
        "foretold_bare_median": statistics.median(row["foretold"]["bare"][0] for row in rows),
        "received_bare_median": statistics.median(row["edits"][0]["received"] for row in rows),
        "spearman": ranks(rows),
    }


def of_batch(row: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of edits that were performed at once."""
    kept = [row[wording]["locality"] for wording in ("bare", "editing_prefix")]
    return {
        "outcome": row["outcome"],
        "perplexity_ratio": row["perplexity"]["ratio"],
        "recall": row["recall"]["after"],
        "succeed": [row["bare"]["success"], row["editing_prefix"]["success"]],
        "neighbours_kept": [each and each["after"] for each in kept],
        "foretold": {name: row["foretold"][name] for name in ("damage", "bound", "condition")},
        "damage": [row["layers"][0]["damage"], row["layers"][0]["damage_measured"]],
        "spearman": {
            "received": row["predicted_received"]["rho"],
            "p_bare": row["received_efficacy"]["rho"],
            "locality_lost": row["neighbours_locality"]["rho"],
        },
    }


def _share(values: Iterable[float]) -> float:
    return statistics.mean(float(value) for value in values)


def tables(found: Mapping[str, Any]) -> list[str]:
    """The rows of docs/batch.md: single edits, what ranks what, batches.

    Args:
        found: What the benchmark writes.

    Returns:
        Lines of Markdown.
    """
    alone, ranked, together = [], [], []
    for arm, groups in (found.get("singly") or {"arms": {}})["arms"].items():
        for group, of in groups.items():
            who = f"| {_label(arm)} | {GROUPS[group]} "
            received = f"{of['foretold_bare_median']:.1%}, {of['received_bare_median']:.1%}"
            alone.append(
                f"{who}| {of['collapsed']} of {of['n']} | {of['perplexity_ratio_largest']:,.3f} "
                f"| {received} | {of['succeed_bare']:.0%} | {of['succeed_prefixed']:.0%} "
                f"| {_or_dash(of['neighbours_kept'], '.0%')} |"
            )
            rho = {name: _or_dash(value, ".2f") for name, value in of["spearman"].items()}
            ranked.append(
                f"{who}| {rho['received']} | {rho['p_bare']}, {rho['p_prefixed']} "
                f"| {rho['locality_lost']} | {rho['perplexity_ratio']} |"
            )
    for name, sizes in found["batches"].items():
        for n, of in sizes.items():
            bare, prefixed = of["succeed"]
            damage, measured = of["damage"]
            together.append(
                f"| {_label(name)} | {n} | {of['outcome']} | {of['perplexity_ratio']:.3f} "
                f"| {_or_dash(of['recall'], '.0%')} | {bare:.0%}, {prefixed:.0%} "
                f"| {damage:.3g}, {measured:.3g} | {_or_dash(of['spearman']['received'], '.2f')} |"
            )
    lines = [*alone, *ranked, *together]
    return [line.replace("%", " %").replace("-", "−") for line in lines]


def _label(arm: str) -> str:
    name, *where = arm.split(", ")
    return ", ".join([METHODS[name].short, *where])


def _or_dash(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)


def main() -> None:
    """Performs what is missing and prints all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="default: the bundled model")
    parser.add_argument("--second-moment", default="auto", help="with {layer} for several blocks")
    parser.add_argument("--edits", nargs="+", help="default: facts of the bundled world")
    parser.add_argument("--texts", help="for perplexity; default: the packaged ones")
    parser.add_argument("--layers", default="1,2,3")
    parser.add_argument("--singly", default=",".join(SINGLY), help="methods of single edits")
    parser.add_argument("--at-once", default=",".join(IN_BATCHES), help="methods of batches")
    parser.add_argument("--each", type=int, default=50, help="single edits of a group; 0 for none")
    parser.add_argument("--batches", default="10,50,200", help="sizes; empty for none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    setup = Setup(model=given.model, second_moment=given.second_moment, quiet=True)
    layers = [int(part) for part in given.layers.split(",")]
    sizes, names = [[part for part in text.split(",") if part] for text in
                    (given.batches, given.at_once)]  # fmt: skip
    if given.edits is None:
        pool = cases(10_000, given.seed)
    else:
        pool = [
            case for name in given.edits for case in placeable(setup.load(), read_edits(name)).cases
        ]
        random.Random(given.seed).shuffle(pool)
    depends = {name: str(getattr(given, name)) for name in
               ("model", "second_moment", "edits", "texts", "layers", "seed")}  # fmt: skip
    journal = None if given.journal is None else Journal(given.journal, depends)
    trials = Trials(setup, layers, Settings(texts=Texts.read(given.texts)), journal)
    document: dict[str, Any] = {"layers": layers}
    if given.each:
        groups = by_group(setup.load(), pool, given.each)
        document["singly"] = singly(trials, groups, given.singly.split(","))
    document["batches"] = in_batches(trials, pool, [int(size) for size in sizes], names)
    print("\n".join(tables(document)))
    if given.output:
        given.output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
