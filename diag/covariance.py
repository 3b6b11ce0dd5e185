"""Estimate, merge and import the second moments C that everything else is measured by.

``python -m diag.covariance --layers 2,3 --text corpus.txt -o c-{layer}.safetensors``, or from a
notebook::

    from diag.covariance import second_moments

    second_moments(layers=[2, 3], text=["corpus.txt"], output="c-{layer}.safetensors")

Interrupted, the same command goes on where it was. Under ``torchrun`` the processes share the
text.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag import command

if TYPE_CHECKING:
    from diag.estimated import SecondMoments
    from probes.corpus import Corpus
    from probes.distributed import Ranks
    from probes.model import LoadedModel
    from probes.moment_files import Published
    from probes.moment_pass import Pass
    from probes.second_moment import SecondMoment

SCHEMA = "diag.covariance/1"
# What an import's yardstick of ordinary tokens is measured on.
BACKGROUND_TOKENS = 50_000


def second_moments(
    *,
    model: LoadedModel | str | None = None,
    layers: Sequence[int] | None = None,
    text: Sequence[str] | str | None = None,
    text_field: str = "text",
    max_tokens: int | None = None,
    row_length: int | None = None,
    seed: int = 0,
    ridge: str = "auto",
    import_npz: str | None = None,
    output: str | None = None,
    checkpoint_every: float = 60.0,
) -> SecondMoments:
    """Estimates the second moments of several layers' keys in one pass over a text.

    Args:
        model: A loaded model, a directory or a hub name; the bundled model by default.
        layers: The blocks; by default the one published work edits.
        text: A source as ``--text`` takes it, or several; packaged text by default.
        text_field: Where a record has its text.
        max_tokens: Stop behind the row that reaches so many.
        row_length: Tokens in a row; by default as many as the model reads, at most 1,024.
        seed: Of the samples kept beside C.
        ridge: ``auto``, ``none`` or a factor; see :mod:`probes.shrinkage`.
        import_npz: Statistics of ROME or EasyEdit to take instead of an estimate.
        output: Where C goes, ``{layer}`` in it for the block; by default where ``auto`` looks.
        checkpoint_every: Seconds of work that an interruption may cost.

    Returns:
        A summary that knows where the moments are.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.keys import settle
    from probes.distributed import ranks
    from probes.errors import UserError

    if layers is not None and not layers:
        raise UserError("no layers are given: name one or more, or None for the edited one")
    plan = _Plan(
        [text] if isinstance(text, str) else text, text_field, max_tokens, row_length, seed,
        str(ridge), import_npz, output, checkpoint_every, quiet=False, command_line=None,
    )  # fmt: skip
    sources = plan.check()
    with ranks() as group:
        loaded, default = settle(model, None)
        chosen = [default] if layers is None else sorted(set(layers))
        return _measure(plan, sources, loaded, chosen, group)


@dataclass(frozen=True)
class _Plan:
    """What is estimated on what, and where it goes; see :func:`second_moments`."""

    text: Sequence[str] | None
    text_field: str
    max_tokens: int | None
    row_length: int | None
    seed: int
    ridge: str
    import_npz: str | None
    output: str | None
    checkpoint_every: float
    quiet: bool
    command_line: str | None

    def check(self) -> _Sources:
        """Refuses what cannot be meant and reads what is named, before a model is loaded.

        Returns:
            What was read.

        Raises:
            UserError: Naming the first mistake.
        """
        import torch

        from probes import corpus, documents, shrinkage
        from probes.errors import UserError
        from probes.moment_files import read_npz

        if self.text is not None and not self.text:
            raise UserError("no text is given: name a source, or None for packaged text")
        for name in ("max_tokens", "row_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {value}")
        if not self.checkpoint_every >= 0:
            raise UserError(f"--checkpoint-every must be 0 or more, not {self.checkpoint_every}")
        if self.ridge not in ("auto", "none"):
            shrinkage.ridge(self.ridge, torch.eye(2), 1.0, 1)
        if self.output is not None:
            command.check_writable(_target(self.output, 0))
        return _Sources(
            corpus.packaged()
            if self.text is None
            else documents.read(self.text, field=self.text_field),
            None if self.import_npz is None else read_npz(self.import_npz),
        )


@dataclass(frozen=True)
class _Sources:
    """The text, and the published statistics that are imported."""

    text: Corpus
    published: Published | None


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser(
        "diag.covariance", "Estimates, merges and imports second moments of keys."
    )
    unset = argparse.SUPPRESS
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="NAME_OR_DIR", default="bundled",
        help="a directory in Hugging Face layout, a hub name, or the small model that comes along",
    )  # fmt: skip
    group.add_argument(
        "--layers", metavar="N[,N…]|all", default=unset,
        help="the blocks, all in one pass (default: the one that is edited)",
    )  # fmt: skip
    group.add_argument(
        "--bos", action=argparse.BooleanOptionalAction, default=unset,
        help="put a begin-of-sequence token in front of every row (default: as the tokenizer does)",
    )  # fmt: skip
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 …")
    group.add_argument(
        "--dtype", choices=("float32", "float16", "bfloat16", "float64"), default="float32",
        help="type of the weights",
    )  # fmt: skip
    group.add_argument(
        "--trust-remote-code", action="store_true", default=unset,
        help="let code that comes with a model run",
    )  # fmt: skip
    group = parser.add_argument_group("text")
    group.add_argument(
        "--text", metavar="SOURCE", action="append", default=unset,
        help="text with blank lines between documents, JSON Lines, JSON (each also .gz), a folder "
        "saved by datasets, or hf:NAME[:CONFIG]:SPLIT; repeat it (default: packaged text)",
    )  # fmt: skip
    group.add_argument("--text-field", default="text", help="where a record has its text")
    group.add_argument(
        "--max-tokens", type=int, default=unset, help="stop behind the row that reaches so many"
    )
    group.add_argument(
        "--row-length", type=int, default=unset,
        help="tokens in a row (default: as many as the model reads, at most 1024)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, help="of the samples kept beside C")
    group = parser.add_argument_group("instead of an estimate")
    group.add_argument(
        "--merge", metavar="FILE", nargs="+", default=unset,
        help="second moments of parts of a corpus, to be added up",
    )  # fmt: skip
    group.add_argument(
        "--import-npz", metavar="FILE", default=unset,
        help="statistics of ROME or EasyEdit; residual norms are measured on the text",
    )  # fmt: skip
    group = parser.add_argument_group("result")
    group.add_argument(
        "-o", "--output", metavar="FILE", default=unset,
        help="where C goes, {layer} in it for the block (default: where auto looks)",
    )  # fmt: skip
    group.add_argument(
        "--ridge", metavar="auto|none|FACTOR", default="auto",
        help="auto: Ledoit and Wolf's shrinkage where there are fewer than 4 tokens for each "
        "dimension, else none; a number: so many times C's mean eigenvalue",
    )  # fmt: skip
    group.add_argument(
        "--checkpoint-every", metavar="SECONDS", type=float, default=60.0,
        help="how much work an interruption may cost",
    )  # fmt: skip
    group.add_argument("--json", metavar="FILE|-", default=unset, help="a summary as JSON")
    group.add_argument("--html", metavar="FILE", default=unset, help="the summary as a page")
    group.add_argument("--quiet", action="store_true", default=unset, help="print no text")
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
    from probes.distributed import ranks
    from probes.errors import UserError

    quiet = "quiet" in asked
    if "merge" in asked and "import_npz" in asked:
        raise UserError("--merge and --import-npz are two things: run them one after the other")
    if "merge" in asked and "output" not in asked:
        raise UserError("--merge needs --output FILE")
    command.check_writable(asked.get("json"), asked.get("html"))
    line = shlex.join(["python", "-m", "diag.covariance", *words])
    if "merge" in asked:
        command.check_writable(_target(asked["output"], 0))
        result = _merge(asked["merge"], asked["output"], line)
    else:
        plan = _Plan(
            asked.get("text"), options.text_field, asked.get("max_tokens"),
            asked.get("row_length"), options.seed, options.ridge, asked.get("import_npz"),
            asked.get("output"), options.checkpoint_every, quiet=quiet, command_line=line,
        )  # fmt: skip
        sources = plan.check()
        with ranks() as group:
            model, default = command.load_model(options)
            layers = _layers(asked.get("layers"), model, default)
            result = _measure(plan, sources, model, layers, group)
            if not group.is_first:
                return 0
    if "json" in asked:
        command.write_text(asked["json"], result.to_json())
    if "html" in asked:
        command.write_text(asked["html"], result.to_html())
    if not quiet and asked.get("json") != "-":
        import reports.covariance_text

        reports.covariance_text.show(result.document)
    return 0


def _target(template: str, layer: int) -> str:
    return template.replace("{layer}", str(layer))


def _layers(given: str | None, model: LoadedModel, default: int) -> list[int]:
    from probes.errors import UserError

    if given is None:
        return [default]
    try:
        return (
            list(range(model.n_layers))
            if given == "all"
            else sorted({int(part) for part in given.split(",")})
        )
    except ValueError as error:
        raise UserError(f"--layers must be numbers with commas, or all, not {given!r}") from error


def _measure(
    plan: _Plan, sources: _Sources, model: LoadedModel, layers: Sequence[int], group: Ranks
) -> SecondMoments:
    from diag.estimated import SecondMoments
    from probes import convergence, corpus, covariance, moment_pass, shrinkage
    from probes.covariance import cache
    from probes.errors import UserError
    from probes.moment_files import adopt, fitting

    began = time.perf_counter()
    for layer in layers:
        model.check_layer(layer)
    if len(layers) > 1 and plan.output is not None and "{layer}" not in plan.output:
        raise UserError(f"several layers need {{layer}} in --output, which is {plan.output}")
    text, published = sources.text, sources.published
    if published is not None and len(layers) > 1:
        raise UserError("--import-npz is of one layer: give one with --layers")
    length = plan.row_length or corpus.row_length(model)
    if length > model.n_ctx:
        raise UserError(f"--row-length {length} is more than the {model.n_ctx} {model.name} reads")
    targets = {
        layer: cache() / covariance.file_name(model, layer)
        if plan.output is None
        else Path(_target(plan.output, layer))
        for layer in layers
    }
    most = plan.max_tokens or (BACKGROUND_TOKENS if published else None)
    beside = targets[layers[0]]
    job = moment_pass.Pass(
        model, layers, text, length, most, plan.seed,
        checkpoint=None if published else beside.with_name(beside.name + ".checkpoint"),
        every=plan.checkpoint_every,
    )  # fmt: skip
    with _bar(job, quiet=plan.quiet or not group.is_first) as progress:
        sums = moment_pass.run(job, group, progress=progress)
    document: dict[str, Any] = {
        "schema": SCHEMA, "version": command.package_version(), "command": plan.command_line,
        "model": model.name, "fingerprint": model.fingerprint, "corpus": text.name, "layers": [],
    }  # fmt: skip
    if not group.is_first:
        return SecondMoments(document)
    controls = {} if published else convergence.keys(model, layers)
    for layer in layers:
        own = sums[layer]
        found: dict[str, Any]
        if published:
            name = Path(str(plan.import_npz)).name
            moment = adopt(published, model, layer, own.background(), name=name)
            found = {"fit": fitting(moment)}
        else:
            moment = covariance.of_sums(own, model, layer, text, row_length=length)
            assert moment.moment is not None
            ridge = shrinkage.ridge(plan.ridge, moment.moment, own.fourth, own.n_tokens)
            moment = replace(moment, least_ridge=ridge)
            control = controls.get(layer)
            moved = convergence.measure(own, moment.ridge, *control) if control else None
            share = shrinkage.shrinkage(own.total / own.n_tokens, own.fourth, own.n_tokens)
            found = {"convergence": moved.describe() if moved else None, "shrinkage": share}
        covariance.save(moment, targets[layer])
        document["layers"].append(_layer(moment, layer, str(targets[layer])) | found)
    moment_pass.forget(job)
    seconds = time.perf_counter() - began
    measured = sums[layers[0]].n_tokens
    document["run"] = {"processes": group.size, "seconds": seconds, "n_tokens": measured}
    return SecondMoments(document)


def _merge(parts: Sequence[str], output: str, command_line: str) -> SecondMoments:
    from diag.estimated import SecondMoments
    from probes.covariance import load, save
    from probes.moment_files import merge

    moment = merge([load(path) for path in parts])
    made = moment.provenance
    assert made is not None
    target = _target(output, made.layer)
    save(moment, target)
    return SecondMoments(
        {
            "schema": SCHEMA,
            "version": command.package_version(),
            "command": command_line,
            "model": made.model,
            "fingerprint": made.fingerprint,
            "corpus": made.corpus,
            "layers": [_layer(moment, made.layer, target)],
        }
    )


def _layer(moment: SecondMoment, layer: int, file: str) -> dict[str, Any]:
    """What a summary says of one layer's C, however it was made."""
    n_tokens = moment.provenance.n_tokens if moment.provenance else 0
    return {
        "layer": layer, "file": file, **moment.describe(), "d_mlp": moment.d_mlp,
        "tokens_per_dimension": n_tokens / moment.d_mlp,
    }  # fmt: skip


@contextlib.contextmanager
def _bar(job: Pass, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Says what is coming, then shows how far it is."""
    if quiet:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    from probes.forecast import forecast

    console = Console(stderr=True, highlight=False)
    coming = forecast(job)
    console.print(f"[dim]{coming.sentence()}[/]")
    columns = (*Progress.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("tokens", total=coming.n_tokens)
        yield lambda done: bar.advance(task, done)


if __name__ == "__main__":
    command.run(main)
