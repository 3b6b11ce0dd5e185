"""What lies beside an edited model: what was changed, and what takes it back.

The original matrix is kept, not only the update's factors: adding and subtracting floating-point
numbers does not give back every bit, copying does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rome_diagnosis.disk import files
from rome_diagnosis.envelope import dumps
from rome_diagnosis.errors import UserError
from rome_diagnosis.schema import validate

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "diag.apply/1"
RECORD = "MODEL_EDITS.json"
NOTE = "MODEL_EDITS.md"
FACTORS = "MODEL_EDITS.safetensors"
ORIGINAL = "original"


def write_record(folder: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes the record of edits into the folder of an edited model.

    Args:
        folder: The folder.
        document: The ``diag.apply/1`` document.
        tensors: ``original``, the unedited matrix as it is stored, and each edit's factors.
    """
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / FACTORS)
    (folder / RECORD).write_text(dumps(document), encoding="utf-8")
    (folder / NOTE).write_text(note(document), encoding="utf-8")


def read_record(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the record of edits of a saved model.

    Args:
        directory: The model's directory.

    Returns:
        The document.

    Raises:
        UserError: If there is none, or it is none of ours.
    """
    path = files.expanded(directory) / RECORD
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{directory} has no {RECORD}: it is not a model that diag.apply has edited"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"{path} is not a record of edits ({SCHEMA})")
    return validate(document, source=str(path))


def undo(directory: str | os.PathLike[str]) -> str:
    """Restores the model that was edited, bit for bit, and removes the record of its edits.

    Args:
        directory: A directory that :func:`diag.apply.apply` wrote.

    Returns:
        The name of the weight that was restored.

    Raises:
        UserError: If the directory has no record of edits, its weights are not the edited ones any
            more, or it cannot be written.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save_file

    folder = files.expanded(directory)
    document = read_record(folder)
    name = str(document["weight"])
    with files.locked(folder / RECORD):
        path = _file_of(folder, name)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
            state = load_file(path)
            present = digest(state[name])
            if present == document["edited_digest"]:
                original = load_file(folder / FACTORS)[ORIGINAL]
                if digest(original) != document["original_digest"]:
                    raise UserError(f"the original weights kept in {directory} are damaged")
                with files.atomic(path) as part:
                    save_file(state | {name: original}, part, metadata=metadata)
            # The restored file is in place already, if an earlier undo was interrupted.
            elif present != document["original_digest"]:
                raise UserError(
                    f"the weights in {directory} were changed after diag.apply wrote them: undoing "
                    "its edits would undo that too"
                )
        except KeyError as error:
            raise UserError(f"cannot undo the edits of {directory}: there is no {error}") from error
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot undo the edits of {directory}: {error}") from error
        for leftover in (NOTE, FACTORS, RECORD):
            (folder / leftover).unlink(missing_ok=True)
    return name


def digest(tensor: Tensor) -> str:
    """Identifies a tensor by its type, shape and every byte."""
    import torch

    flat = tensor.detach().contiguous().cpu().flatten().view(torch.uint8)
    head = f"{tensor.dtype}{tuple(tensor.shape)}".encode()
    return hashlib.sha256(head + flat.numpy().tobytes()).hexdigest()


def note(document: Mapping[str, Any]) -> str:
    """The record of edits for people to read, as Markdown.

    Args:
        document: The ``diag.apply/1`` document.

    Returns:
        Markdown.
    """
    from reports.markdown import render

    return render(document)


def _file_of(folder: Path, name: str) -> Path:
    """The safetensors file that holds a weight."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return folder / "model.safetensors"
    try:
        return folder / Path(json.loads(index.read_text(encoding="utf-8"))["weight_map"][name]).name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{index} does not say where {name} is stored") from error
