"""Model directories spoilt at random, each in one way that files do go wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Weights = dict[str, torch.Tensor]
WEIGHTS, CONFIG = "model.safetensors", "config.json"
DEPTH = ("n_layer", "num_hidden_layers")


def mutate(original: Path, directory: Path, seed: int) -> str:
    """Copies a model directory and changes one thing in the copy.

    Args:
        original: A sound model directory.
        directory: Where the copy goes; must not exist.
        seed: Chooses what is changed.

    Returns:
        What was done.
    """
    draw = random.Random(seed)
    shutil.copytree(original, directory)
    kind = draw.choice([*TENSORS, *FILES])
    if kind in FILES:
        return f"{kind}: {FILES[kind](directory, draw)}"
    weights = load_file(directory / WEIGHTS)
    name = draw.choice(sorted(weights))
    TENSORS[kind](weights, name, draw)
    weights = {key: value.contiguous() for key, value in weights.items()}
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})
    return f"{kind}: {name}"


def _drop(weights: Weights, name: str, draw: random.Random) -> None:
    del weights[name]


def _rename(weights: Weights, name: str, draw: random.Random) -> None:
    stem, _, leaf = name.rpartition(".")
    other = draw.choice([f"{stem}.{leaf}s", f"{stem}_.{leaf}", f"x.{name}", name.upper()])
    weights[other] = weights.pop(name)


def _drop_block(weights: Weights, name: str, draw: random.Random) -> None:
    block = draw.choice("012")
    for key in [key for key in weights if f".{block}." in key]:
        del weights[key]


def _surplus(weights: Weights, name: str, draw: random.Random) -> None:
    weights[f"{name}.{draw.choice(['copy', 'lora_A', 'old'])}"] = weights[name].clone()


def _reshape(weights: Weights, name: str, draw: random.Random) -> None:
    tensor = weights[name]
    choices = [tensor[None], tensor[:-1], torch.cat([tensor, tensor[:1]]), tensor.flatten()[:1]]
    if tensor.dim() == 2 and tensor.shape[0] != tensor.shape[1]:
        choices += [tensor.T, tensor.flatten()]
    weights[name] = draw.choice(choices).clone()


def _not_finite(weights: Weights, name: str, draw: random.Random) -> None:
    flat = weights[name].flatten().clone()
    flat[draw.randrange(len(flat))] = draw.choice([float("nan"), float("inf"), float("-inf")])
    weights[name] = flat.view(weights[name].shape)


def _all_nan(weights: Weights, name: str, draw: random.Random) -> None:
    weights[name] = torch.full_like(weights[name], float("nan"))


def _other_order(weights: Weights, name: str, draw: random.Random) -> None:
    weights[name] = weights.pop(name)  # harmless


def _wider_type(weights: Weights, name: str, draw: random.Random) -> None:
    weights[name] = weights[name].double()  # harmless


def _whole_numbers(weights: Weights, name: str, draw: random.Random) -> None:
    weights[name] = weights[name].to(torch.int32)


def _depth(directory: Path, draw: random.Random) -> str:
    config = json.loads((directory / CONFIG).read_text())
    name = next(name for name in DEPTH if name in config)
    config[name] = max(1, config[name] + draw.choice([-2, -1, 1, 5]))
    config.pop("layer_types", None)
    (directory / CONFIG).write_text(json.dumps(config))
    return f"{name} {config[name]}"


def _cut(directory: Path, draw: random.Random) -> str:
    path = directory / WEIGHTS
    content = path.read_bytes()
    length = draw.randrange(len(content))
    path.write_bytes(content[:length])
    return f"{length} of {len(content)} bytes"


def _no_config(directory: Path, draw: random.Random) -> str:
    path = directory / draw.choice([CONFIG, "tokenizer.json", WEIGHTS])
    path.write_text(draw.choice(["", "{", "[]", "null", '{"model_type": 3}']))
    return path.name


def _missing_file(directory: Path, draw: random.Random) -> str:
    path = directory / draw.choice([CONFIG, "tokenizer.json", WEIGHTS])
    path.unlink()
    return path.name


TENSORS: dict[str, Callable[[Weights, str, random.Random], None]] = {
    "dropped": _drop,
    "renamed": _rename,
    "block dropped": _drop_block,
    "surplus": _surplus,
    "other shape": _reshape,
    "one value not finite": _not_finite,
    "all NaN": _all_nan,
    "other order": _other_order,
    "float64": _wider_type,
    "whole numbers": _whole_numbers,
}
FILES: dict[str, Callable[[Path, random.Random], str]] = {
    "other depth": _depth,
    "cut short": _cut,
    "no JSON": _no_config,
    "missing": _missing_file,
}
