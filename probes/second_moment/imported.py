"""Statistics that ROME's or EasyEdit's code measured, as second moments of a loaded model."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from probes.model.loaded import LoadedModel
from probes.second_moment import plausible
from probes.second_moment.moment import Background, Provenance, SecondMoment, of_moment
from rome_diagnosis.errors import UserError
from rome_diagnosis.source import check_regular

# ROME's and EasyEdit's names, e.g. transformer.h.17.mlp.c_proj_float32_mom2_100000.npz
UNREADABLE = (
    ValueError, KeyError, TypeError, OverflowError, MemoryError, EOFError, zipfile.BadZipFile,
    zlib.error, NotImplementedError,
)  # fmt: skip
LAYER = re.compile(r"(?:^|\.)(?:h|layers|blocks)\.(\d+)\.")
# What rounding a matrix to float32, as these files do, can make of an eigenvalue 0.
ROUNDING = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Published:
    """Statistics as ``rome.layer_stats`` saves them.

    Attributes:
        moment: E[k kᵀ], float64, ``[d_mlp, d_mlp]``.
        n_tokens: Number of keys it was averaged over.
        layer: The block in its file's name, or ``None``.
    """

    moment: Tensor
    n_tokens: int
    layer: int | None


def read_npz(path: str | os.PathLike[str]) -> Published:
    """Reads a statistics file of ROME or EasyEdit, without unpickling anything.

    Args:
        path: The ``.npz`` file.

    Returns:
        Its content.

    Raises:
        UserError: If it cannot be read, holds no second moment, or one that cannot be.
    """
    path = Path(path)
    check_regular(path, "the statistics file")
    try:
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            known = {"mom2.mom2", "mom2.count"} <= names
            raw: Any = np.asarray(file["mom2.mom2"]) if known else None
            count = int(file["mom2.count"]) if known else 0
    except OSError as error:
        raise UserError(f"cannot read the statistics file {path}: {error}") from error
    except UNREADABLE as error:
        # What numpy says of such a file advises to unpickle it.
        raise UserError(f"{path} is no .npz file of statistics, or it is damaged") from error
    if not known:
        raise UserError(
            f"{path} holds no second moment: expected mom2.mom2 and mom2.count, but it holds "
            f"{', '.join(sorted(names)) or 'nothing'}"
        )
    if raw.dtype.kind != "f" or raw.ndim != 2 or raw.shape[0] != raw.shape[1] or count <= 0:
        raise UserError(f"{path}: a second moment of {raw.dtype} {raw.shape} over {count} keys")
    total = torch.from_numpy(raw.astype(np.float64))
    if not torch.isfinite(total).all() or bool((total.diagonal() < 0).any()):
        raise UserError(f"{path} holds values that no sum of squares has")
    if float((total - total.T).abs().max()) > 1e-3 * float(total.abs().max()):
        raise UserError(f"{path} holds a matrix that is not symmetric")
    layer = LAYER.search(path.name)
    return Published(total / count, count, int(layer.group(1)) if layer else None)


def adopt(
    published: Published, model: LoadedModel, layer: int, background: Background, *, name: str
) -> SecondMoment:
    """A second moment of this model from imported statistics.

    Args:
        published: The statistics.
        model: The model they are said to be of.
        layer: The block.
        background: Ordinary tokens, measured on the model itself: the statistics bring none.
        name: What to call their corpus.

    Returns:
        The second moment; how long its rows were is not known.

    Raises:
        UserError: If they are of another layer, size, or evidently of other weights.
    """
    if published.layer is not None and published.layer != layer:
        raise UserError(f"{name} is of layer {published.layer} by its name, not {layer}")
    d_mlp = int(model.config.d_mlp)
    if len(published.moment) != d_mlp:
        raise UserError(
            f"{name} has size {len(published.moment)}; {model.name} has keys of {d_mlp}"
        )
    provenance = Provenance(
        model=model.name,
        fingerprint=model.fingerprint,
        layer=layer,
        bos=model.bos,
        corpus=name,
        corpus_digest=hashlib.sha256(published.moment.numpy().tobytes()).hexdigest(),
        n_tokens=published.n_tokens,
        row_length=None,
        position0_share=None,
        dtype=model.dtype,
    )
    try:
        moment = of_moment(
            positive(published.moment),
            source="imported",
            provenance=provenance,
            background=background,
        )
    except ValueError as error:
        raise UserError(f"{name} is no second moment: {error}") from error
    for complaint in plausible.complaints(moment, foreign=True):
        raise UserError(f"{name} is not of layer {layer} of {model.name}: {complaint}")
    return moment


def positive(matrix: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The nearest positive semidefinite matrix, where rounding to float32 has left none.

    Args:
        matrix: About symmetric, float64.

    Returns:
        The matrix itself where its Cholesky factor exists or its negative eigenvalues are too
        large for rounding; else with those set to zero.
    """
    symmetric = (matrix + matrix.T) / 2
    if not torch.linalg.cholesky_ex(symmetric).info:
        return matrix
    values, vectors = torch.linalg.eigh(symmetric)
    if float(values[0]) < -len(matrix) * ROUNDING * float(values[-1]):
        return matrix
    nearest = (vectors * values.clamp(min=0.0)) @ vectors.T
    return (nearest + nearest.T) / 2
