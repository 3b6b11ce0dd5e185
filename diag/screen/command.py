"""The command line of ``python -m diag.screen``."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from diag.keys.command import CLAMP, settle
from rome_diagnosis import command

if TYPE_CHECKING:
    from diag.screen.result import Screening
    from diag.screen.run import OnError, Scan
    from probes.model.loaded import LoadedModel
    from probes.second_moment.moment import SecondMoment
    from probes.second_moment.ranks import Ranks


def screen(
    dataset: str,
    output: str,
    *,
    model: LoadedModel | str | None = None,
    layer: int | None = None,
    prefixes: Sequence[str] | None = None,
    n_prefixes: int = 20,
    seed: int = 0,
    second_moment: SecondMoment | str = "auto",
    clamp: float = CLAMP,
    on_error: OnError = "skip",
    riskiest: str | None = None,
    n_riskiest: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Screening:
    """Screens every edit of a data set before a single one is made.

    Args:
        dataset: A JSON array, JSON Lines or CSV; see :mod:`probes.request.records`.
        output: The Parquet table to write, one row for each row of the data set, in its order.
        model: A loaded model, a directory or a hub name; the bundled model by default.
        layer: The edited block; by default the one published work edits.
        prefixes: Contexts 1…n as texts; sampled from the model by default.
        n_prefixes: How many to sample.
        seed: Of the sampling.
        second_moment: C itself, a file, ``"identity"`` or ``"auto"``.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖ when v* is optimised.
        on_error: Whether a row that is no edit is kept as an error, or ends the run.
        riskiest: A file for the riskiest cases, as ``diag.verify --edits`` reads it.
        n_riskiest: How many.
        progress: Called with the rows done and all rows.

    Returns:
        The summary, and where the table is.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.screen.run import scan
    from probes.second_moment.ranks import ranks

    command.check_writable(output, riskiest)
    scanned = scan(dataset, on_error=on_error)
    with ranks() as group:
        loaded, block = settle(model, layer)
        return _screen(
            scanned, output, loaded, block, group, prefixes=prefixes, n_prefixes=n_prefixes,
            seed=seed, second_moment=second_moment, clamp=clamp, riskiest=riskiest,
            n_riskiest=n_riskiest, progress=progress, quiet=False, command_line=None,
        )  # fmt: skip


def _screen(
    scanned: Scan, output: str, model: LoadedModel, layer: int, group: Ranks, *,
    prefixes: Sequence[str] | None, n_prefixes: int, seed: int,
    second_moment: SecondMoment | str, clamp: float, riskiest: str | None, n_riskiest: int,
    progress: Callable[[int, int], None] | None, quiet: bool, command_line: str | None,
) -> Screening:  # fmt: skip
    import probes.request.prefixes
    from diag.screen.run import Plan, run
    from diag.screen.shard import Screener
    from probes.keys.many_edits import SharedPrefixes
    from rome_diagnosis.errors import UserError

    if not clamp > 0:
        raise UserError(f"the clamp factor must be above 0, not {clamp}")
    if n_riskiest < 0:
        raise UserError(f"the number of riskiest cases must be 0 or more, not {n_riskiest}")
    moment: SecondMoment | None = None
    for first in (True, False):  # one process estimates where nothing is at hand; others find it
        if group.is_first == first:
            moment = (
                command.find_second_moment(model, layer, second_moment, quiet=quiet or not first)
                if isinstance(second_moment, str)
                else second_moment
            )
        group.wait()
    assert moment is not None
    texts = group.share(
        probes.request.prefixes.sample(model, n=n_prefixes, seed=seed)
        if prefixes is None
        else probes.request.prefixes.given(prefixes)
    )
    screener = Screener(SharedPrefixes(model, layer, texts), moment, clamp=clamp, seed=seed)
    plan = Plan(
        scanned, output, screener, sampled=prefixes is None, riskiest=riskiest,
        n_riskiest=n_riskiest, command_line=command_line,
    )  # fmt: skip
    return run(plan, group, progress or (lambda done, total: None))


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("diag.screen", "Which edits of a data set would break the model?")
    unset = argparse.SUPPRESS
    parser.add_argument("dataset", metavar="DATASET", help="JSON array, JSON Lines or CSV of edits")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, default=unset,
        help="the table, as Parquet; parts of an interrupted run wait in FILE.parts",
    )  # fmt: skip
    group = parser.add_argument_group("screening")
    group.add_argument(
        "--on-error", choices=("skip", "refuse"), default="skip",
        help="keep a row that is no edit as an error, or end the run",
    )  # fmt: skip
    group.add_argument(
        "--riskiest", metavar="FILE", default=unset,
        help="the riskiest cases as JSON Lines, for diag.verify --edits",
    )  # fmt: skip
    group.add_argument("--n-riskiest", type=int, default=100, help="how many of them")
    group.add_argument(
        "--prefix", metavar="TEXT", action="append", default=unset,
        help="a context to put in front of every prompt; repeat it (default: sampled)",
    )  # fmt: skip
    group.add_argument("--n-prefixes", type=int, default=20, help="how many contexts to sample")
    group.add_argument("--seed", type=int, default=0, help="of the sampled contexts")
    group.add_argument(
        "--clamp-factor", type=float, default=CLAMP,
        help="v* may move this many times the length of the present value",
    )  # fmt: skip
    command.add_model_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE|-", default=unset, help="the summary as JSON")
    group.add_argument("--html", metavar="FILE", default=unset, help="the result as a page")
    group.add_argument("--quiet", action="store_true", default=unset, help="print no text")
    group.add_argument(
        "--fail-on", choices=("collapse_risk", "unclear"), default=unset,
        help="exit with code 1 if a row has this verdict or a worse one",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: For anything the user can put right.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(words)
    asked = vars(options)
    command.check_writable(
        options.output, asked.get("json"), asked.get("html"), asked.get("riskiest")
    )
    from diag.screen.run import scan
    from probes.second_moment.ranks import ranks

    # A file with mistakes should not wait for a model to load.
    scanned = scan(options.dataset, on_error=options.on_error)
    quiet = asked.get("quiet", False)
    with ranks() as group, _bar(scanned.n_rows, quiet=quiet or not group.is_first) as progress:
        model, layer = command.load_model(options)
        result = _screen(
            scanned, options.output, model, layer, group, prefixes=asked.get("prefix"),
            n_prefixes=options.n_prefixes, seed=options.seed,
            second_moment=options.second_moment, clamp=options.clamp_factor,
            riskiest=asked.get("riskiest"), n_riskiest=options.n_riskiest, progress=progress,
            quiet=quiet, command_line=shlex.join(["python", "-m", "diag.screen", *words]),
        )  # fmt: skip
        first = group.is_first
    if first and "json" in asked:
        command.write_text(asked["json"], result.to_json())
    if first and "html" in asked:
        command.write_text(asked["html"], result.to_html())
    if first and not quiet and asked.get("json") != "-":
        import reports.text.screen

        reports.text.screen.show(result.document)
    worse = {"collapse_risk": ("collapse_risk",), "unclear": ("unclear", "collapse_risk")}
    found = result.document["summary"]["verdicts"]
    return int(any(found[name] for name in worse.get(asked.get("fail_on", ""), ())))


@contextlib.contextmanager
def _bar(n: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, shown once the first rows are done."""
    if quiet:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("requests", total=n)

    def advance(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if bar.live.is_started:  # else stopping it would write an empty line
            bar.stop()
