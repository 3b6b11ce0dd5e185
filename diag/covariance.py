"""Estimate, merge and import the second moments C that everything else is measured by.

``python -m diag.covariance --layers 2,3 --text corpus.txt -o c-{layer}.safetensors``

Interrupted, the same command goes on where it was. Under ``torchrun`` the processes share the
text.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag import command

if TYPE_CHECKING:
    from probes.distributed import Ranks
    from probes.model import LoadedModel
    from probes.moment_pass import Pass

SCHEMA = "diag.covariance/1"
# What an import's yardstick of ordinary tokens is measured on.
BACKGROUND_TOKENS = 50_000


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
    options = build_parser().parse_args(arguments)
    asked = vars(options)
    _check(asked)
    from probes.distributed import ranks

    if "merge" in asked:
        document = _merge(asked)
    else:
        with ranks() as group:
            document = _measure(options, asked, group)
            if not group.is_first:
                return 0
    if "json" in asked:
        command.write_text(asked["json"], command.dumps(document))
    if "quiet" not in asked and asked.get("json") != "-":
        import reports.covariance_text

        reports.covariance_text.show(document)
    return 0


def _check(asked: dict[str, Any]) -> None:
    from probes.errors import UserError

    if "merge" in asked and "import_npz" in asked:
        raise UserError("--merge and --import-npz are two things: run them one after the other")
    if "merge" in asked and "output" not in asked:
        raise UserError("--merge needs --output FILE")
    for name in ("max_tokens", "row_length"):
        if asked.get(name, 1) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {asked[name]}")
    if not asked["checkpoint_every"] >= 0:
        raise UserError(f"--checkpoint-every must be 0 or more, not {asked['checkpoint_every']}")
    command.check_writable(asked.get("json"))
    if "output" in asked:
        command.check_writable(_output(asked["output"], 0))


def _output(template: str, layer: int) -> str:
    return template.replace("{layer}", str(layer))


def _layers(asked: dict[str, Any], model: LoadedModel, default: int) -> list[int]:
    from probes.errors import UserError

    given = asked.get("layers")
    if given is None:
        return [default]
    try:
        found = (
            list(range(model.n_layers))
            if given == "all"
            else sorted({int(part) for part in given.split(",")})
        )
    except ValueError as error:
        raise UserError(f"--layers must be numbers with commas, or all, not {given!r}") from error
    for layer in found:
        model.check_layer(layer)
    if len(found) > 1 and "output" in asked and "{layer}" not in asked["output"]:
        raise UserError(f"several layers need {{layer}} in --output, which is {asked['output']}")
    return found


def _measure(options: argparse.Namespace, asked: dict[str, Any], group: Ranks) -> dict[str, Any]:
    from probes import convergence, corpus, covariance, documents, moment_pass, shrinkage
    from probes.covariance import cache
    from probes.errors import UserError
    from probes.moment_files import adopt, fitting, read_npz

    began = time.perf_counter()
    published = read_npz(asked["import_npz"]) if "import_npz" in asked else None
    quiet = "quiet" in asked or not group.is_first
    text = (
        documents.read(asked["text"], field=options.text_field)
        if "text" in asked
        else corpus.packaged()
    )
    model, default = command.load_model(options)
    layers = _layers(asked, model, default)
    # Wrong rules should not wait for a corpus.
    if options.ridge not in ("auto", "none"):
        import torch

        shrinkage.ridge(options.ridge, torch.eye(2), 1.0, 1)
    length = asked.get("row_length") or corpus.row_length(model)
    if length > model.n_ctx:
        raise UserError(f"--row-length {length} is more than the {model.n_ctx} {model.name} reads")
    if published is not None and len(layers) > 1:
        raise UserError("--import-npz is of one layer: give one with --layers")
    most = asked.get("max_tokens", BACKGROUND_TOKENS if published else None)
    targets = {
        layer: Path(_output(asked["output"], layer))
        if "output" in asked
        else cache() / covariance.file_name(model, layer)
        for layer in layers
    }
    beside = targets[layers[0]]
    job = moment_pass.Pass(
        model, layers, text, length, most, options.seed,
        checkpoint=None if published else beside.with_name(beside.name + ".checkpoint"),
        every=options.checkpoint_every,
    )  # fmt: skip
    resumed: list[int] = []
    with _bar(job, quiet=quiet) as progress:
        sums = moment_pass.run(job, group, progress=lambda n: progress(n, resumed))
    document: dict[str, Any] = {
        "schema": SCHEMA, "version": command.package_version(), "model": model.name,
        "fingerprint": model.fingerprint, "corpus": text.name, "layers": [],
    }  # fmt: skip
    if not group.is_first:
        return document
    controls = {} if published else convergence.keys(model, layers)
    for layer in layers:
        own = sums[layer]
        found: dict[str, Any]
        if published:
            name = Path(asked["import_npz"]).name
            moment = adopt(published, model, layer, own.background(), name=name)
            found = {"fit": fitting(moment)}
        else:
            moment = covariance.of_sums(own, model, layer, text, row_length=length)
            assert moment.moment is not None
            ridge = shrinkage.ridge(options.ridge, moment.moment, own.fourth, own.n_tokens)
            moment = replace(moment, least_ridge=ridge)
            control = controls.get(layer)
            moved = convergence.measure(own, moment.ridge, *control) if control else None
            share = shrinkage.shrinkage(own.total / own.n_tokens, own.fourth, own.n_tokens)
            found = {"convergence": moved.describe() if moved else None, "shrinkage": share}
        covariance.save(moment, targets[layer])
        document["layers"].append(
            {
                "layer": layer, "file": str(targets[layer]), **moment.describe(),
                "tokens_per_dimension": (moment.provenance.n_tokens if moment.provenance else 0)
                / moment.d_mlp, "d_mlp": moment.d_mlp, **found,
            }
        )  # fmt: skip
    moment_pass.forget(job)
    seconds = time.perf_counter() - began
    measured = sums[layers[0]].n_tokens
    document["run"] = {"processes": group.size, "seconds": seconds, "n_tokens": measured}
    return document


def _merge(asked: dict[str, Any]) -> dict[str, Any]:
    from probes.covariance import load, save
    from probes.moment_files import merge

    moment = merge([load(path) for path in asked["merge"]])
    made = moment.provenance
    assert made is not None
    target = _output(asked["output"], made.layer)
    save(moment, target)
    return {
        "schema": SCHEMA, "version": command.package_version(), "model": made.model,
        "fingerprint": made.fingerprint, "corpus": made.corpus,
        "layers": [
            {
                "layer": made.layer, "file": target, **moment.describe(), "d_mlp": moment.d_mlp,
                "tokens_per_dimension": made.n_tokens / moment.d_mlp,
            }
        ],
    }  # fmt: skip


@contextlib.contextmanager
def _bar(job: Pass, *, quiet: bool) -> Iterator[Callable[[int, list[int]], None]]:
    """Says what is coming, then shows how far it is."""
    if quiet:
        yield lambda done, resumed: None
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
        yield lambda done, resumed: bar.advance(task, done)


if __name__ == "__main__":
    command.run(main)
