"""Second moments in files: safetensors with a sealed header, read without believing it.

What can be computed from the matrix and the samples is not read from the header: eigenvalues are
computed again, the ridge follows from its rule, and medians must fit the samples. The seal, a
SHA-256 of everything else in the file, says that a file is what was written; what carries a right
seal and is still impossible (:mod:`probes.second_moment.plausible`) is refused too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
import stat
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from probes.second_moment import plausible, shrinkage
from probes.second_moment.moment import ROWS, Background, Provenance, SecondMoment, of_moment
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import SYMMETRIC

SCHEMA = "second_moment/2"
# Written before files had a seal, a rule for the ridge, or norms beside the samples.
UNSEALED = "second_moment/1"
KEYS, MATRIX = ("first_keys", "later_keys"), "moment"
BESIDE = ("first_streams", "later_streams", "first_norms", "later_norms")
LARGEST = 2**53
# Squares of the smallest and the largest float32 number lie between these.
SQUARES = (1e-91, 1e78)
DTYPES = ("float16", "bfloat16", "float32", "float64")


def save(moment: SecondMoment, path: str | os.PathLike[str]) -> None:
    """Writes a second moment with its provenance and samples, completely or not at all.

    Args:
        moment: Not the identity.
        path: The file; its folder is created if there is none.

    Raises:
        UserError: If the file cannot be written.
    """
    assert moment.moment is not None and moment.provenance is not None
    assert moment.background is not None
    header: dict[str, Any] = {
        "schema": SCHEMA,
        "provenance": asdict(moment.provenance),
        "ridge_rule": moment.ridge_rule,
        "fourth": moment.fourth,
        "residual_norm": moment.background.residual_norm,
        "residual_norm_before": moment.background.residual_norm_before,
    }
    tensors = {MATRIX: moment.moment} | moment.background.samples
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    header["seal"] = seal(header, tensors)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the second moment {path}: {error.strerror}") from error
    with files.atomic(path) as part:
        try:
            text = json.dumps(header, sort_keys=True)
            save_file(tensors, part, metadata={"second_moment": text})
        except safetensors.SafetensorError as error:
            raise UserError(f"cannot write the second moment {path}: {_line(error)}") from error


def load_moment(path: str | os.PathLike[str], *, source: str | None = None) -> SecondMoment:
    """Reads a second moment that :func:`save` wrote.

    Args:
        path: The file.
        source: What to call its source in results; the path by default.

    Returns:
        The second moment.

    Raises:
        UserError: If the file is missing, is not a second moment, was changed or damaged, or
            holds what no second moment can be.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"the second moment {path} is not a file")
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["second_moment"])
            tensors = {name: _tensor(file, name) for name in sorted(file.keys())}
        return _read(header, tensors, source or str(path))
    except FileNotFoundError as error:
        raise UserError(f"there is no second moment file {path}") from error
    except OSError as error:
        raise UserError(f"cannot read the second moment {path}: {error.strerror}") from error
    except UserError:
        raise
    except (KeyError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        if _is_zip(path):
            raise UserError(
                f"{path} holds statistics of ROME or EasyEdit: import them with python -m "
                f"diag.covariance --import-npz {path} -o FILE, and use that file"
            ) from error
        reason = f"{error} is missing" if isinstance(error, KeyError) else _line(error)
        raise UserError(
            f"{path} is not a second moment of this toolkit, or it is damaged: {reason}"
        ) from error


def seal(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of everything in a file but the seal itself.

    Args:
        header: The header; an entry ``seal`` does not count.
        tensors: The tensors by name, contiguous.

    Returns:
        64 hexadecimal digits.
    """
    rest = {name: value for name, value in header.items() if name != "seal"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        raw: Any = tensor.numpy()
        digest.update(raw)
    return digest.hexdigest()


def _tensor(file: Any, name: str) -> Tensor:
    """One tensor of a file, if it is one of ours and of the type that ours have."""
    if name not in (MATRIX, *KEYS, *BESIDE):
        raise ValueError(f"{reprlib.repr(name)} is no part of a second moment")
    expected = "F64" if name == MATRIX else "F32"
    dtype = file.get_slice(name).get_dtype()
    if dtype != expected:
        raise ValueError(f"{name} is of type {dtype}, not {expected}")
    return file.get_tensor(name)


def _read(header: Any, tensors: Mapping[str, Tensor], source: str) -> SecondMoment:
    """The second moment of a file's content; ``ValueError`` or ``KeyError`` says what is wrong."""
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")
    if header["schema"] not in (SCHEMA, UNSEALED):
        raise ValueError(f"its schema is {reprlib.repr(header['schema'])}, not {SCHEMA!r}")
    if header["schema"] == SCHEMA and header["seal"] != seal(header, tensors):
        raise ValueError("its content was changed after it was written")
    provenance = _provenance(header["provenance"])
    matrix, background = _matrix(tensors), _background(header, tensors)
    fourth = header.get("fourth")
    moment = of_moment(
        matrix,
        source=source,
        provenance=provenance,
        background=background,
        fourth=None if fourth is None else _number(header, "fourth"),
    )
    if header["schema"] == SCHEMA:
        moment = _ridged(moment, header["ridge_rule"])
    else:
        # The rule was not written down; no rule gives more than this.
        least = _number(header, "least_ridge") if "least_ridge" in header else 0.0
        if least > shrinkage.LARGEST_FACTOR * float(matrix.diagonal().mean()):
            raise ValueError(f"its ridge {least:.3g} is larger than any rule asks for")
        moment = replace(moment, least_ridge=least)
    for complaint in plausible.complaints(moment, foreign=provenance.row_length is None):
        raise ValueError(f"it cannot be the second moment of its keys: {complaint}")
    return moment


def _ridged(moment: SecondMoment, rule: Any) -> SecondMoment:
    try:
        return shrinkage.ridged(moment, str(rule))
    except UserError as error:  # which speaks of the command line's option
        raise ValueError(f"its ridge_rule is {reprlib.repr(rule)}") from error


def _matrix(tensors: Mapping[str, Tensor]) -> Tensor:
    """C, if it is square, finite, and symmetric to rounding."""
    matrix = tensors[MATRIX]
    d = len(matrix) if matrix.dim() else 0
    if tuple(matrix.shape) != (d, d) or not d:
        raise ValueError(f"its matrix has shape {tuple(matrix.shape)}")
    if not all(torch.isfinite(rows).all() for rows in matrix.split(ROWS)):
        raise ValueError("its matrix holds values that are not finite")
    diagonal = matrix.diagonal()
    if bool((diagonal < 0).any()) or not SQUARES[0] < float(diagonal.max()) < SQUARES[1]:
        raise ValueError("its diagonal holds values that no mean of float32 numbers' squares has")
    # In units of each coordinate's own size, so that small ones are held to it too.
    scale = diagonal.sqrt()
    for rows, columns, size in zip(
        matrix.split(ROWS), matrix.split(ROWS, dim=1), scale.split(ROWS), strict=True
    ):
        if bool(((rows - columns.T).abs() > SYMMETRIC.value * size[:, None] * scale).any()):
            raise ValueError("its matrix is not symmetric")
    return matrix


def _background(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Background:
    """The samples, if their shapes fit the matrix and they are finite."""
    samples = {name: tensors[name] for name in (*KEYS, *BESIDE) if name in KEYS or name in tensors}
    for name, tensor in samples.items():
        rows = samples[f"{name.split('_')[0]}_keys"].shape[:1]
        width = {"keys": len(tensors[MATRIX]), "norms": 2}.get(name.split("_")[1])
        if tensor.dim() != 2 or tensor.shape[:1] != rows or width not in (None, tensor.shape[1]):
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}")
        if not tensor.numel() or not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} is empty or holds values that are not finite")
    return Background(
        residual_norm=_number(header, "residual_norm"),
        residual_norm_before=_number(header, "residual_norm_before"),
        **samples,
    )


def _provenance(given: Any) -> Provenance:
    """The provenance, if it is complete and of the right types."""
    if not isinstance(given, dict):
        raise ValueError("it does not say where it comes from")
    values = {entry.name: given[entry.name] for entry in fields(Provenance)}
    for name, value in values.items():
        right = {
            "layer": _is_count(value, 0),
            "bos": isinstance(value, bool),
            "n_tokens": _is_count(value, 1),
            "row_length": value is None or _is_count(value, 1),
            "position0_share": value is None or (_is_number(value) and 0 < value <= 1),
            "dtype": value in DTYPES if isinstance(value, str) else False,
        }.get(name, isinstance(value, str) and value != "")
        if not right:
            raise ValueError(f"its {name} is {reprlib.repr(value)}")
    return Provenance(**values)


def _number(header: Mapping[str, Any], name: str) -> float:
    """A finite number of 0 or more."""
    value = header[name]
    if not _is_number(value) or value < 0:
        raise ValueError(f"its {name} is {reprlib.repr(value)}")
    return float(value)


def _is_number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and abs(value) < math.inf and abs(value) <= 1e300


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _is_zip(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
