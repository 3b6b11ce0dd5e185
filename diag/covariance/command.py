"""The command line of ``python -m diag.covariance``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diag.covariance.run import Plan, measure, merge_files, target_path
from rome_diagnosis import command

if TYPE_CHECKING:
    from diag.covariance.result import SecondMoments
    from probes.model.loaded import LoadedModel


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
        ridge: ``auto``, ``none`` or a factor; see :mod:`probes.second_moment.shrinkage`.
        import_npz: Statistics of ROME or EasyEdit to take instead of an estimate.
        output: Where C goes, ``{layer}`` in it for the block; by default where ``auto`` looks.
        checkpoint_every: Seconds of work that an interruption may cost.

    Returns:
        A summary that knows where the moments are.

    Raises:
        UserError: For anything the caller can put right.
    """
    from diag.keys.command import settle
    from probes.second_moment.ranks import ranks
    from rome_diagnosis.errors import UserError

    if layers is not None and not layers:
        raise UserError("no layers are given: name one or more, or None for the edited one")
    plan = Plan(
        [text] if isinstance(text, str) else text, text_field, max_tokens, row_length, seed,
        str(ridge), import_npz, output, checkpoint_every, quiet=False, command_line=None,
    )  # fmt: skip
    sources = plan.check()
    with ranks() as group:
        loaded, default = settle(model, None)
        chosen = [default] if layers is None else sorted(set(layers))
        return measure(plan, sources, loaded, chosen, group)


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
    from probes.second_moment.ranks import ranks
    from rome_diagnosis.errors import UserError

    quiet = "quiet" in asked
    if "merge" in asked and "import_npz" in asked:
        raise UserError("--merge and --import-npz are two things: run them one after the other")
    if "merge" in asked and "output" not in asked:
        raise UserError("--merge needs --output FILE")
    command.check_writable(asked.get("json"), asked.get("html"))
    line = shlex.join(["python", "-m", "diag.covariance", *words])
    if "merge" in asked:
        command.check_writable(target_path(asked["output"], 0))
        result = merge_files(asked["merge"], asked["output"], line)
    else:
        plan = Plan(
            asked.get("text"), options.text_field, asked.get("max_tokens"),
            asked.get("row_length"), options.seed, options.ridge, asked.get("import_npz"),
            asked.get("output"), options.checkpoint_every, quiet=quiet, command_line=line,
        )  # fmt: skip
        sources = plan.check()
        with ranks() as group:
            model, default = command.load_model(options)
            layers = _layers(asked.get("layers"), model, default)
            result = measure(plan, sources, model, layers, group)
            if not group.is_first:
                return 0
    if "json" in asked:
        command.write_text(asked["json"], result.to_json())
    if "html" in asked:
        command.write_text(asked["html"], result.to_html())
    if not quiet and asked.get("json") != "-":
        import reports.text.covariance

        reports.text.covariance.show(result.document)
    return 0


def _layers(given: str | None, model: LoadedModel, default: int) -> list[int]:
    from rome_diagnosis.errors import UserError

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
