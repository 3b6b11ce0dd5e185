"""The command line of ``python -m diag.verify``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diag.judgement.collapse import COLLAPSE_RATIO
from diag.keys.command import choose_request, settle
from rome_diagnosis import command

if TYPE_CHECKING:
    from diag.verify.result import Comparison, Verification
    from diag.verify.run import Trial
    from probes.model.loaded import LoadedModel
    from probes.request.cases import Cases, EditCase
    from probes.request.request import Request
    from probes.second_moment.moment import SecondMoment
    from probes.target_value.hyperparameters import Hyperparameters

# About 13,000 tokens of the bundled texts: the ratio of two perplexities on the same text is then
# known to a fraction of a per cent.
MAX_TEXTS = 100
ARMS = ("rome", "c_rome", "p_rome", "c_rome_prefixed")
OVERRIDES = {
    "evaluations": (int, "evaluations of the loss; one step less"),
    "learning_rate": (float, "of Adam"),
    "weight_decay": (float, "factor of ‖δ‖/‖v_u‖²"),
    "clamp_norm_factor": (float, "longest δ in lengths of v_u"),
    "kl_factor": (float, "factor of the divergence from the unedited model"),
    "stop_below": (float, "loss at which the optimisation stops"),
}


def verify(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    model: LoadedModel | str | None = None,
    layer: int | None = None,
    prefixes: Sequence[str] | None = None,
    n_prefixes: int = 20,
    seed: int = 0,
    second_moment: SecondMoment | str = "auto",
    hyperparameters: Hyperparameters | None = None,
    c_rome_target: Literal["published", "consistent"] = "published",
    collapse_ratio: float = COLLAPSE_RATIO.value,
    texts: Sequence[str] | None = None,
) -> Verification:
    """Performs one edit four ways and measures the model before and after each.

    Args:
        subject: The subject of the fact.
        prompt: With ``{}`` for the subject, or with the subject in it once; by default that of a
            fact the bundled world knows about the subject.
        target_new: The new object; needed unless the bundled world knows the fact.
        target_true: What the model says now; success is then P(new) > P(true).
        model: A loaded model, a directory or a hub name; the bundled model by default.
        layer: The edited block; by default the one published work edits.
        prefixes: Contexts 1…n as texts; sampled from the model by default.
        n_prefixes: How many to sample.
        seed: Of all sampling.
        second_moment: C itself, a file, ``"identity"`` or ``"auto"``.
        hyperparameters: Of the optimisation of v*; ROME's by default.
        c_rome_target: What C-ROME writes: ``"published"`` v_u + δ, ``"consistent"`` v̄ + δ.
        collapse_ratio: The perplexity ratio from which on a model counts as collapsed.
        texts: For perplexity; bundled held-out texts by default.

    Returns:
        What became of the model.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.request.cases import of_request

    edit = _request(subject, prompt, target_new, target_true)
    trial = _prepare(
        model, layer, prefixes, n_prefixes, seed, second_moment, hyperparameters,
        c_rome_target, collapse_ratio, texts,
    )  # fmt: skip
    return trial.one(of_request(edit))


def verify_list(
    edits: Sequence[EditCase] | str | os.PathLike[str],
    *,
    model: LoadedModel | str | None = None,
    layer: int | None = None,
    prefixes: Sequence[str] | None = None,
    n_prefixes: int = 20,
    seed: int = 0,
    second_moment: SecondMoment | str = "auto",
    hyperparameters: Hyperparameters | None = None,
    c_rome_target: Literal["published", "consistent"] = "published",
    collapse_ratio: float = COLLAPSE_RATIO.value,
    texts: Sequence[str] | None = None,
    journal: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Performs a list of edits, one at a time, and compares collapse cases with normal ones.

    Args:
        edits: A file in ROME's, EasyEdit's or the bundled facts' format, or cases.
        model: As in :func:`verify`, like all that are not named here.
        layer: See there.
        prefixes: See there.
        n_prefixes: See there.
        seed: See there.
        second_moment: See there.
        hyperparameters: See there.
        c_rome_target: See there.
        collapse_ratio: See there.
        texts: See there.
        journal: A file that results go to as they come; with the same arguments an interrupted
            run goes on from it.
        progress: Called with the number of edits done.

    Returns:
        Every edit's result, and groups of them beside one another.

    Raises:
        UserError: For anything the caller can put right.
    """
    from probes.request.cases import Cases, read

    cases = read(edits) if isinstance(edits, str | os.PathLike) else Cases(tuple(edits))
    trial = _prepare(
        model, layer, prefixes, n_prefixes, seed, second_moment, hyperparameters,
        c_rome_target, collapse_ratio, texts,
    )  # fmt: skip
    return trial.many(cases, journal=journal, progress=progress)


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.verify", "Performs an edit four ways and measures what becomes of the model."
    )
    unset = argparse.SUPPRESS
    command.add_request_options(parser, required=False)
    group = parser.add_argument_group("list of edits")
    group.add_argument(
        "--edits", metavar="FILE", default=unset,
        help="JSON or JSON Lines in ROME's, EasyEdit's or the bundled facts' format, instead of "
        "--subject",
    )  # fmt: skip
    group.add_argument("--limit", type=int, default=unset, help="only the first so many")
    group.add_argument(
        "--journal", metavar="FILE", default=unset,
        help="results go here as they come, and an interrupted run goes on from it (default: "
        "beside --json FILE)",
    )  # fmt: skip
    command.add_model_options(parser)
    group = parser.add_argument_group("optimisation of v*")
    group.add_argument(
        "--hyperparameters", metavar="FILE", default=unset,
        help="of ROME (JSON) or EasyEdit (YAML); the options below have precedence",
    )  # fmt: skip
    for name, (kind, text) in OVERRIDES.items():
        option = "--" + name.replace("_", "-")
        group.add_argument(option, type=kind, default=unset, help=text)
    group.add_argument(
        "--c-rome-target", choices=("published", "consistent"), default="published",
        help="what C-ROME writes: v_u + δ as published, or v̄ + δ",
    )  # fmt: skip
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--texts", metavar="FILE", default=unset,
        help="texts for perplexity: ME-PPL's JSON, JSON Lines, or text with blank lines between "
        "(default: bundled held-out texts)",
    )  # fmt: skip
    group.add_argument(
        "--max-texts", type=int, default=MAX_TEXTS, help="at most the first so many of them"
    )
    group.add_argument(
        "--generated-tokens", type=int, default=40, help="length of the generated texts"
    )
    group.add_argument(
        "--collapse-ratio", type=float, default=COLLAPSE_RATIO.value,
        help="perplexity ratio from which on a model counts as collapsed",
    )  # fmt: skip
    command.add_output_options(parser)
    parser.add_argument(
        "--save-model", metavar="DIR", default=unset,
        help="write the edited model, for Hugging Face from_pretrained",
    )  # fmt: skip
    parser.add_argument(
        "--save-variant", choices=ARMS[:3], default="c_rome", help="which edit --save-model has"
    )
    parser.add_argument(
        "--fail-on", choices=(*ARMS, "any"), default=unset,
        help="exit with code 1 if this arm breaks the model",
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
    import sys

    from diag.verify.run import Texts, prepare
    from probes.request.cases import Cases

    words = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(words)
    asked = vars(options)
    # Mistakes that can be seen now should not wait for a model to load.
    edits = _asked_edits(asked)
    listed = isinstance(edits, Cases)
    to_json, to_html = asked.get("json"), asked.get("html")
    journal = asked.get("journal")
    if journal is None and to_json not in (None, "-"):
        journal = f"{to_json}.journal"
    command.check_writable(to_json, to_html, *([journal] if listed else []))
    chosen = _hyperparameters(asked)
    texts = Texts.read(asked.get("texts"), limit=options.max_texts)
    quiet = asked.get("quiet", False)
    if chosen.layer is not None and "layer" not in asked:
        options.layer = chosen.layer
    model, layer = command.load_model(options)
    moment = options.second_moment
    if moment == "auto" and not chosen.second_moment_adjustment:
        moment = "identity"  # as the file says, and as the result will
    trial = prepare(
        model, layer, command.find_second_moment(model, layer, moment, quiet=quiet),
        prefixes=asked.get("prefix"), n_prefixes=options.n_prefixes, seed=options.seed,
        hyperparameters=chosen, c_rome_target=options.c_rome_target,
        collapse_ratio=options.collapse_ratio, texts=texts,
        generated_tokens=options.generated_tokens,
    )  # fmt: skip
    line = shlex.join(["python", "-m", "diag.verify", *words])
    result: Verification | Comparison
    if isinstance(edits, Cases):
        with _bar(len(edits.found), quiet=quiet) as progress:
            result = trial.many(edits, journal=journal, progress=progress, command_line=line)
        broken = {arm: n > 0 for arm, n in result.summary["collapsed"].items()}
    else:
        result = trial.one(edits, command_line=line)
        broken = dict(result.collapsed)
        if "save_model" in asked:
            trial.save_model(edits, options.save_variant, asked["save_model"])
    if to_json:
        command.write_text(to_json, result.to_json())
        if journal is not None and listed and "journal" not in asked:
            Path(journal).unlink(missing_ok=True)  # its results have gone to their final place
    if to_html:
        command.write_text(to_html, result.to_html())
    if not quiet and to_json != "-":
        import reports.text.verify

        reports.text.verify.show(result.document)
    failing = asked.get("fail_on")
    return int(any(broken.values()) if failing == "any" else broken.get(failing, False))


def _asked_edits(asked: dict[str, Any]) -> Cases | EditCase:
    from probes.request.cases import of_request, read
    from rome_diagnosis.errors import UserError

    if ("edits" in asked) == ("subject" in asked):
        raise UserError("say what to edit: either --subject or --edits FILE")
    if "edits" not in asked:
        parts = (asked.get(name) for name in ("subject", "prompt", "target_new", "target_true"))
        return of_request(_request(*parts))
    for option in ("prompt", "target_new", "target_true", "save_model"):
        if option in asked:
            flag = "--" + option.replace("_", "-")
            raise UserError(f"{flag} is for one edit; the edits of a list bring their own")
    cases = read(asked["edits"])
    limit = asked.get("limit")
    if limit is None:
        return cases
    if limit < 1:
        raise UserError(f"--limit must be 1 or more, not {limit}")
    return dataclasses.replace(cases, found=cases.found[:limit])


def _request(
    subject: Any, prompt: str | None, target_new: str | None, target_true: str | None
) -> Request:
    from rome_diagnosis.errors import UserError

    edit = choose_request(subject, prompt, target_new=target_new, target_true=target_true)
    if edit.target_new is None:
        raise UserError(f"the edit of {edit.subject!r} has no new object: give --target-new")
    return edit


def _hyperparameters(asked: dict[str, Any]) -> Hyperparameters:
    from probes.target_value.hyperparameters import Hyperparameters, read

    path = asked.get("hyperparameters")
    chosen = read(path) if path else Hyperparameters()
    return dataclasses.replace(chosen, **{name: asked[name] for name in OVERRIDES if name in asked})


def _prepare(
    model: LoadedModel | str | None, layer: int | None, prefixes: Sequence[str] | None,
    n_prefixes: int, seed: int, second_moment: SecondMoment | str,
    hyperparameters: Hyperparameters | None,
    c_rome_target: Literal["published", "consistent"], collapse_ratio: float,
    texts: Sequence[str] | None,
) -> Trial:  # fmt: skip
    from diag.verify.run import Texts, prepare
    from probes.target_value.hyperparameters import Hyperparameters

    chosen = hyperparameters or Hyperparameters()
    loaded, block = settle(model, chosen.layer if layer is None else layer)
    moment = (
        command.find_second_moment(loaded, block, second_moment)
        if isinstance(second_moment, str)
        else second_moment
    )
    return prepare(
        loaded, block, moment, prefixes=prefixes, n_prefixes=n_prefixes, seed=seed,
        hyperparameters=chosen, c_rome_target=c_rome_target, collapse_ratio=collapse_ratio,
        texts=Texts.read(limit=MAX_TEXTS) if texts is None else Texts("given", tuple(texts)),
    )  # fmt: skip


@contextlib.contextmanager
def _bar(n: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error."""
    if quiet:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("edits", total=n)
        yield lambda done: bar.update(task, completed=done)
