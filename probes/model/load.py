"""Loading a model so that the numbers measured on it mean what they seem to mean."""

from __future__ import annotations

import os
from typing import Any

import torch

from probes import memory
from probes.model.architecture import refuse_unsuitable
from probes.model.bridge import wrap
from probes.model.gguf import weights_of
from probes.model.loaded import LoadedModel
from probes.model.locate import folder_of, locate
from probes.model.messages import short_message
from probes.model.sound import refuse_incomplete, refuse_whole_numbers
from rome_diagnosis.defaults import DTYPES, DType
from rome_diagnosis.errors import UserError


def load(
    name_or_path: str | os.PathLike[str],
    *,
    name: str | None = None,
    device: str = "auto",
    dtype: DType = "float32",
    bos: bool | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads a causal language model, raw, for measuring and editing.

    Args:
        name_or_path: A local directory in Hugging Face layout, a GGUF file, a hub name, or the
            name of a packaged model (:data:`probes.model.gguf.PACKAGED`).
        name: What to call the model in results; as it is given by default.
        device: ``"auto"`` (a GPU where there is one), or a torch device.
        dtype: Type of the weights. Small updates are lost in 16-bit storage: edit in float32.
        bos: Whether to prepend a begin-of-sequence token; ``None`` does what the plain tokenizer
            does, as the published editing code runs.
        trust_remote_code: Whether code shipped with the model may run.

    Returns:
        The loaded model.

    Raises:
        UserError: If the model cannot be located or read, its weights are not all there and
            finite, or keys measured on it would be silently wrong (see
            :func:`probes.model.bridge.wrap`).
    """
    source, local_only = locate(str(name_or_path))
    name = name or str(name_or_path)
    if dtype not in DTYPES:
        raise UserError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    target = _device(device)
    options = {"local_files_only": local_only, "trust_remote_code": trust_remote_code}
    model, tokenizer, info = _read(source, name, getattr(torch, dtype), options)
    refuse_incomplete(info, model, name)
    folder = folder_of(source)
    refuse_whole_numbers(folder, model, name)
    try:
        model.to(target)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"cannot use device {device!r}: {short_message(error)}") from error
    loaded = wrap(model, tokenizer, name=name, path=source, bos=bos, weights=weights_of(folder))
    memory.give_back()
    return loaded


def _read(
    source: str, name: str, dtype: torch.dtype, options: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer and what transformers reports about the weights it read."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(source, **options)
        refuse_unsuitable(config, name)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported by name instead
            **options,
        )
    except UserError:
        raise
    except Exception as error:  # the libraries raise OSError, ValueError, KeyError, SafetensorError
        raise UserError(f"cannot load model {name!r}: {_what_to_do(error)}") from error
    return model, tokenizer, info


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UserError(f"{device!r} is not a torch device: try cpu, cuda or cuda:0") from error


def _what_to_do(error: BaseException) -> str:
    message = short_message(error)
    if "trust_remote_code" in message:
        return (
            "it comes with code of its own, which has to run: read that code, then pass "
            "--trust-remote-code (trust_remote_code=True from Python)"
        )
    return message
