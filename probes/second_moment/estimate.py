"""Estimating the second moment over a corpus, keeping it in a file, and finding the right one.

One pass over the text: keys are accumulated in float64 as they come; beside them a uniform sample
of first-token and later keys and the residual stream's norms, which verdicts are measured by.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file

from probes import bundled
from probes.forward import activations
from probes.model.loaded import LoadedModel
from probes.second_moment.moment import Background, Provenance, SecondMoment, of_moment
from probes.second_moment.sums import Accumulator, Progress, feed
from probes.second_moment.sums import Sample as Sample
from probes.text import corpus
from rome_diagnosis.errors import UserError

SCHEMA = "second_moment/1"
CACHE_VARIABLE = "ROME_DIAGNOSIS_CACHE"
BATCH_TOKENS = 8192
STREAMS = ("first_streams", "later_streams")


def estimate(
    model: LoadedModel,
    layer: int,
    text: corpus.Corpus,
    *,
    max_tokens: int | None = None,
    row_length: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> SecondMoment:
    """Estimates the second moment of one layer's keys over a corpus.

    Args:
        model: The model.
        layer: The block.
        text: The corpus.
        max_tokens: Stop behind the row that reaches so many tokens; ``None`` reads all.
        row_length: Tokens in a row; by default as many as the model reads, at most 1,024.
        seed: Of the samples kept beside the moment.
        progress: Called with the number of tokens of each batch done.

    Returns:
        The second moment, with its provenance and background.

    Raises:
        UserError: If the layer does not exist or the corpus holds no text.
    """
    model.check_layer(layer)
    length = row_length or corpus.row_length(model)
    sums = Accumulator.empty(
        int(model.config.d_mlp), seed, d_stream=activations.stream_width(model)
    )
    for chunk in _chunks(corpus.rows(model, text, length=length), max_tokens):
        feed(model, {layer: sums}, chunk, batch_tokens=BATCH_TOKENS, progress=progress)
    return of_sums(sums, model, layer, text, row_length=length)


def of_sums(
    sums: Accumulator, model: LoadedModel, layer: int, text: corpus.Corpus, *, row_length: int
) -> SecondMoment:
    """The second moment that sums over a corpus come to.

    Args:
        sums: The sums.
        model: The model.
        layer: The block.
        text: The corpus.
        row_length: Tokens in a row.

    Returns:
        The second moment, with its provenance and background.

    Raises:
        UserError: If nothing was summed.
    """
    if not sums.n_tokens:
        raise UserError(f"the corpus {text.name} holds no text to estimate a second moment from")
    return of_moment(
        sums.total / sums.n_tokens,
        source="estimated",
        provenance=Provenance(
            model=model.name,
            fingerprint=model.fingerprint,
            layer=layer,
            bos=model.bos,
            corpus=text.name,
            corpus_digest=text.digest,
            n_tokens=sums.n_tokens,
            row_length=row_length,
            position0_share=sums.n_first / sums.n_tokens,
            dtype=model.dtype,
        ),
        background=sums.background(),
    )


def save(moment: SecondMoment, path: str | os.PathLike[str]) -> None:
    """Writes a second moment and its provenance as safetensors, whole or not at all.

    Args:
        moment: Not the identity.
        path: The file.

    Raises:
        UserError: If the file cannot be written.
    """
    assert moment.moment is not None and moment.provenance is not None
    assert moment.background is not None
    path = Path(path)
    header = {
        "schema": SCHEMA,
        "provenance": asdict(moment.provenance),
        "eigenvalues": list(moment.eigenvalues),
        "least_ridge": moment.least_ridge,
        "residual_norm": moment.background.residual_norm,
        "residual_norm_before": moment.background.residual_norm_before,
    }
    tensors = {
        "moment": moment.moment.contiguous(),
        "first_keys": moment.background.first_keys.contiguous(),
        "later_keys": moment.background.later_keys.contiguous(),
    }
    for name in STREAMS:
        streams = getattr(moment.background, name)
        if streams is not None:
            tensors[name] = streams.contiguous()
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        os.close(handle)
        save_file(tensors, part, metadata={"second_moment": json.dumps(header, sort_keys=True)})
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write the second moment {path}: {error.strerror}") from error
    finally:
        if part and os.path.exists(part):
            os.unlink(part)


def load(path: str | os.PathLike[str], *, source: str | None = None) -> SecondMoment:
    """Reads a second moment written by :func:`save`.

    Args:
        path: The file.
        source: What to call its source in results; the path by default.

    Returns:
        The second moment.

    Raises:
        UserError: If the file is missing, is not a second moment, or is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["second_moment"])
            moment, first, later = (
                file.get_tensor(name) for name in ("moment", "first_keys", "later_keys")
            )
            held = set(file.keys())
            streams = {name: file.get_tensor(name) for name in STREAMS if name in held}
        if header["schema"] != SCHEMA:
            raise UserError(f"{path} has schema {header['schema']!r}, not {SCHEMA!r}")
        names = {entry.name for entry in fields(Provenance)}
        provenance = Provenance(**{k: v for k, v in header["provenance"].items() if k in names})
        low, high = header["eigenvalues"]
        if (
            moment.dim() != 2
            or moment.shape[0] != moment.shape[1]
            or moment.shape[1] != (later.shape[1])
        ):
            raise ValueError(f"shapes {tuple(moment.shape)} and {tuple(later.shape)}")
        if not torch.isfinite(moment).all():
            raise ValueError("values that are not finite")
        return SecondMoment(
            moment=moment,
            d_mlp=moment.shape[0],
            source=source or str(path),
            provenance=provenance,
            background=Background(
                first, later, header["residual_norm"], header["residual_norm_before"], **streams
            ),
            eigenvalues=(float(low), float(high)),
            least_ridge=float(header.get("least_ridge", 0.0)),
        )
    except FileNotFoundError as error:
        raise UserError(f"there is no second moment file {path}") from error
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} is not a second moment of this toolkit, or it is damaged: {error}"
        ) from error


def check(moment: SecondMoment, model: LoadedModel, layer: int) -> None:
    """Refuses a second moment of other weights, another layer or another convention.

    Raises:
        UserError: With what was expected and what came.
    """
    made = moment.provenance
    if made is None:
        return
    for what, expected, came in (
        ("layer", layer, made.layer),
        ("size", int(model.config.d_mlp), moment.d_mlp),
        ("weights", f"{model.name} ({model.fingerprint[:8]})", _whose(made, model)),
        ("begin-of-sequence convention", _bos(model.bos), _bos(made.bos)),
    ):
        if expected != came:
            raise UserError(
                f"the second moment {moment.source} was measured for another {what}: {came}, "
                f"where {expected} is needed"
            )


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
        notice: Called with a line of text when an estimate has to be made.
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
        moment = load(choice)
        check(moment, model, layer)
        return moment
    name = file_name(model, layer)
    for folder, source in ((bundled.DATA / "second_moments", "shipped"), (cache(), "estimated")):
        if (folder / name).is_file():
            moment = load(folder / name, source=source)
            check(moment, model, layer)
            return moment
    text = corpus.packaged()
    # Enough tokens to fill every direction several times, few enough not to keep anyone waiting.
    tokens = max(50_000, 8 * int(model.config.d_mlp))
    if notice:
        notice(
            f"no second moment of {model.name} layer {layer} is at hand: estimating it from "
            f"up to {tokens:,} tokens of packaged text; a second moment of more and more "
            "ordinary text (--second-moment FILE) is better"
        )
    moment = estimate(
        model, layer, text, max_tokens=tokens, progress=progress(tokens) if progress else None
    )
    try:
        save(moment, cache() / name)
    except UserError as error:
        if notice:
            notice(f"the estimate is not kept: {error}")
    return moment


def file_name(model: LoadedModel, layer: int) -> str:
    """What the file of a model's and layer's second moment is called where ``auto`` looks."""
    return f"{model.fingerprint}-L{layer}{'-bos' if model.bos else ''}.safetensors"


def cache() -> Path:
    """Where estimated second moments are kept between runs."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "rome-diagnosis" / "second-moments"


def _chunks(
    rows: Iterable[list[int]], max_tokens: int | None, size: int = 64
) -> Iterable[list[list[int]]]:
    """Groups rows, so that a corpus is tokenised while it is run and never held whole."""
    chunk: list[list[int]] = []
    n_tokens = 0
    for row in rows:
        chunk.append(row)
        n_tokens += len(row)
        if max_tokens is not None and n_tokens >= max_tokens:
            break
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _whose(made: Provenance, model: LoadedModel) -> str:
    # The name may differ (a copied directory): only the weights decide.
    name = model.name if made.fingerprint == model.fingerprint else made.model
    return f"{name} ({made.fingerprint[:8]})"


def _bos(prepended: bool) -> str:
    return "with one in front" if prepended else "with none"
