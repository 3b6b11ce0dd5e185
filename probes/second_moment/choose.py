"""Which second moment belongs to a model and layer: a file, the shipped one, the cached one."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import torch

import rome_diagnosis.cache
from probes import bundled, memory
from probes.forward import activations
from probes.forward.batches import batches
from probes.model.fingerprint import fingerprint
from probes.model.loaded import LoadedModel
from probes.second_moment import cost as forecast
from probes.second_moment.estimate import estimate_layers
from probes.second_moment.moment import ROUGH, Provenance, SecondMoment
from probes.second_moment.plausible import with_other_text
from probes.second_moment.stored import load_moment, save
from probes.second_moment.sums import Progress
from probes.text import corpus
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import NORM_FACTOR

CACHE_VARIABLE = rome_diagnosis.cache.VARIABLE
# Enough tokens to fill every direction several times, few enough that nobody waits for long.
ESTIMATED_FROM, ESTIMATED_PER_DIMENSION = 50_000, 8  # tokens
NORM_DOCUMENTS = 100


def for_model(
    model: LoadedModel,
    layer: int,
    choice: str = "auto",
    *,
    notice: Callable[[str], None] | None = None,
    progress: Callable[[int], Progress] | None = None,
) -> SecondMoment:
    """Finds the second moment for a model and layer.

    Args:
        model: The model.
        layer: The edited block.
        choice: A file, ``"identity"``, or ``"auto"``: the shipped one, else the cached one, else
            one estimated from packaged text and cached.
        notice: Called with lines of text: that an estimate is under way, and where it is kept.
        progress: Called with the number of tokens to come; returns what to call with each batch's.

    Returns:
        The second moment; never the identity unless that was asked for.

    Raises:
        UserError: If the file cannot be read or does not belong to this model and layer.
    """
    model.check_layer(layer)
    if choice == "identity":
        return SecondMoment.identity(int(model.config.d_mlp))
    if choice != "auto":
        moment = _read(choice, choice)
        check_moment(moment, model, layer)
        return _against_other_text(moment, model, layer)
    at_hand = _at_hand(model, layer)
    if at_hand is not None:
        return at_hand
    estimated = _estimate(model, [layer], notice=notice, progress=progress)
    return estimated[layer]


def for_layers(
    model: LoadedModel,
    layers: Sequence[int],
    choice: str = "auto",
    *,
    notice: Callable[[str], None] | None = None,
    progress: Callable[[int], Progress] | None = None,
) -> Iterator[tuple[int, SecondMoment]]:
    """The second moments of several layers, one after another; missing ones come from one pass.

    Args:
        model: The model.
        layers: The blocks.
        choice: As :func:`for_model`; in a file's name ``{layer}`` stands for the block.
        notice: As :func:`for_model`.
        progress: As :func:`for_model`.

    Yields:
        Each layer and its second moment.

    Raises:
        UserError: As :func:`for_model`; or if one file is named for several layers.
    """
    if choice == "auto":
        missing = [layer for layer in layers if _place(model, layer) is None]
        estimated = _estimate(model, missing, notice=notice, progress=progress, keep=False)
    elif choice != "identity" and "{layer}" not in choice and len(layers) > 1:
        raise UserError(f"{choice} is one file: put {{layer}} into the name of several")
    else:
        estimated = {}
    for layer in layers:
        at_hand = estimated.pop(layer, None)
        named = choice.replace("{layer}", str(layer))
        yield layer, at_hand or for_model(model, layer, named, notice=notice, progress=progress)


def _estimate(
    model: LoadedModel,
    layers: Sequence[int],
    *,
    notice: Callable[[str], None] | None,
    progress: Callable[[int], Progress] | None,
    keep: bool = True,
) -> dict[int, SecondMoment]:
    """Estimates second moments from packaged text and writes them to the cache.

    Args:
        model: The model.
        layers: The blocks.
        notice: As :func:`for_model`.
        progress: As :func:`for_model`.
        keep: Whether to return those that could be written, too.

    Returns:
        Second moments by layer: all, or those that are in memory alone.
    """
    say = notice or (lambda line: None)
    in_memory: dict[int, SecondMoment] = {}
    if not layers:
        return in_memory
    d_mlp = int(model.config.d_mlp)
    tokens = max(ESTIMATED_FROM, ESTIMATED_PER_DIMENSION * d_mlp)
    blocks = f"{'layer' if len(layers) == 1 else 'layers'} {', '.join(map(str, layers))}"
    say(
        f"there is no second moment of {model.name} {blocks} yet: estimating it from "
        f"{tokens:,} tokens of packaged text. For reliable numbers pass --second-moment FILE "
        "computed on a larger, more natural corpus"
    )
    groups = forecast.groups(layers, d_mlp, halves=False)
    advance = progress(tokens * len(groups)) if progress else None
    text = corpus.packaged()
    for group in groups:
        for layer, moment in estimate_layers(
            model, group, text, max_tokens=tokens, progress=advance
        ):
            try:
                kept = cache() / file_name(model, layer)
                save(moment, kept)
                say(f"the estimate is kept in {kept}")
            except UserError as error:
                say(f"the estimate is not kept: {error}")
                in_memory[layer] = moment
            if keep:
                in_memory[layer] = moment
    return in_memory


def check_moment(moment: SecondMoment, model: LoadedModel, layer: int) -> None:
    """Refuses a second moment of other weights, another layer or another convention.

    Args:
        moment: The second moment.
        model: The model it is to be used with.
        layer: The edited block.

    Raises:
        UserError: With what was expected and what came.
    """
    known = moment.provenance
    if known is None:
        return
    for what, expected, came in (
        ("layer", layer, known.layer),
        ("size", int(model.config.d_mlp), moment.d_mlp),
        ("begin-of-sequence convention", _bos(model.bos), _bos(known.bos)),
    ):
        if expected != came:
            raise UserError(
                f"the second moment {moment.source} was measured for another {what}: {came}, "
                f"where {expected} is needed"
            )
    if known.fingerprint != model.fingerprint:
        raise UserError(f"the second moment {moment.source} was measured {_whose(known, model)}")
    if moment.background is not None and moment.background.later_norms is None:
        _check_norm(moment, model, layer)


def file_name(model: LoadedModel, layer: int) -> str:
    """Name of the file in which ``auto`` looks for a model's and layer's second moment."""
    # Keys in a short type give a C of their own, of the same weights.
    rough = f"-{model.computed_in}" if model.computed_in in ROUGH else ""
    kind = ("-bos" if model.bos else "") + rough
    return f"{model.fingerprint}-L{layer}{kind}.safetensors"


def cache() -> Path:
    """The folder in which estimated second moments are kept between runs.

    Raises:
        UserError: If there is no home directory and no variable names another.
    """
    return rome_diagnosis.cache.folder("second-moments")


def _against_other_text(moment: SecondMoment, model: LoadedModel, layer: int) -> SecondMoment:
    """A file's C, held against text that is not its own, once for as long as it is in use."""
    known = moment.provenance
    if moment.is_identity or (known is not None and known.corpus == bundled.CORPUS_NAME):
        return moment
    kept = model.kept.get("other text")
    if kept is None or kept[0] is not moment:
        kept = model.kept["other text"] = (moment, with_other_text(moment, model, layer))
        memory.give_back()
    held: SecondMoment = kept[1]
    return held


def _at_hand(model: LoadedModel, layer: int) -> SecondMoment | None:
    """The shipped or the cached second moment."""
    place = _place(model, layer)
    if place is None:
        return None
    path, source = place
    moment = _read(path, source)
    check_moment(moment, model, layer)
    return moment


def _place(model: LoadedModel, layer: int) -> tuple[Path, str] | None:
    """Where the shipped or the cached second moment lies, and which of the two it is."""
    places: list[tuple[Path, str]] = [(bundled.DATA / "second_moments", "shipped")]
    with contextlib.suppress(UserError):  # which is said when an estimate cannot be kept
        places.append((cache(), "estimated"))
    # Of keys that were computed exactly rather than in the type of autocast.
    names = dict.fromkeys(file_name(each, layer) for each in (model.exact(), model))
    for name, (folder, source) in itertools.product(names, places):
        if os.path.isfile(folder / name):
            return folder / name, source
    return None


def _read(path: str | os.PathLike[str], source: str) -> SecondMoment:
    """A file's second moment; the file that was read last is not read and solved again."""
    try:
        status = os.stat(path)
    except OSError:
        return load_moment(path, source=source)  # which says what is wrong
    stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return _read_once(os.fspath(path), source, stamp)


@lru_cache(maxsize=1)
def _read_once(path: str, source: str, stamp: tuple[int, ...]) -> SecondMoment:
    moment = load_moment(path, source=source)
    memory.give_back()
    return moment


def _whose(known: Provenance, model: LoadedModel) -> str:
    """On what it was measured instead, and what to do."""
    if known.dtype != model.dtype:
        rounded = fingerprint(model.state_dict, rounded_to=getattr(torch, known.dtype))
        # Weights that were rounded on loading cannot be compared with what they were before.
        if rounded == known.fingerprint or known.dtype in ("float32", "float64"):
            return (
                f"on {known.model} in {known.dtype}, and {model.name} is loaded in "
                f"{model.dtype}: load it with --dtype {known.dtype}, or estimate a second moment "
                f"in {model.dtype}"
            )
    # The name may differ (a copied directory): only the weights decide.
    return (
        f"on other weights: {known.model} ({known.fingerprint[:8]}), where "
        f"{model.name} ({model.fingerprint[:8]}) is needed"
    )


def _bos(prepended: bool) -> str:
    return "with one before every row" if prepended else "with none"


def _check_norm(moment: SecondMoment, model: LoadedModel, layer: int) -> None:
    """Holds the stream's norm against the model's, where no sampled norms lie beside it."""
    assert moment.background is not None
    length = min(256, corpus.row_length(model))
    some = corpus.Corpus.of(bundled.CORPUS_NAME, bundled.corpus().splitlines()[:NORM_DOCUMENTS])
    rows = list(islice(corpus.rows(model, some, length=length), 2))
    read = activations.reader(model, [layer])
    norms = [
        read(batch)[layer]["resid_post"][:, 1:].double().norm(dim=-1).flatten().cpu()
        for batch in batches(rows, model)
    ]
    typical = float(torch.cat(norms).median())
    stated = moment.background.residual_norm
    if not typical / NORM_FACTOR.value <= stated <= typical * NORM_FACTOR.value:
        raise UserError(
            f"the second moment {moment.source} gives the residual stream a median norm of "
            f"{stated:.3g}, and {model.name} has {typical:.3g} after block {layer}: estimate it "
            "again with python -m diag.covariance"
        )
