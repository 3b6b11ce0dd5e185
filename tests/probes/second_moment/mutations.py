"""Second-moment files with something wrong in them, made at random from a good one."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from probes.second_moment import stored

Parts = tuple[dict[str, Any], dict[str, Tensor]]
WRONG_VALUES: list[Any] = [
    None, True, "", "x", [], {}, -1, 0, 1, 1e30, -1e30, 10**400, float("nan"), float("inf"), [[1]],
]  # fmt: skip
WRONG_NUMBERS = [float("nan"), float("inf"), -float("inf"), 0.0, -1.0, 1e30, 1e-30, -1e-3]
TYPES = [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool,
    torch.complex64, torch.uint8,
]  # fmt: skip


def parts(path: Path) -> Parts:
    """Header and tensors of a good file."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["second_moment"])
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def content(header: Any, tensors: dict[str, Tensor], *, sealed: bool = False) -> bytes:
    """A file's bytes; ``sealed`` writes the seal that a writer of this very content would."""
    if sealed and isinstance(header, dict):
        header = header | {"seal": stored.seal(header, tensors)}
    return save(tensors, metadata={"second_moment": json.dumps(header)})


def mutants(path: Path, n: int, *, seed: int) -> Iterator[tuple[str, bytes]]:
    """Files with one thing wrong.

    Args:
        path: A good file.
        n: How many.
        seed: Seed of the draws.

    Yields:
        What was done, and the file's bytes.
    """
    good, draw = path.read_bytes(), random.Random(seed)
    kinds: list[Callable[[random.Random, Parts], tuple[str, bytes]]] = [
        _value, _values, _shape, _type, _metadata, _metadata, _missing,
    ]  # fmt: skip
    for i in range(n):
        kind = draw.randrange(len(kinds) + 3)
        if kind < len(kinds):
            yield kinds[kind](draw, parts(path))
        elif kind == len(kinds):
            length = draw.randrange(len(good))
            yield f"{i}: cut to {length} bytes", good[:length]
        elif kind == len(kinds) + 1:
            yield _bytes(draw, good, 8 + struct.unpack("<Q", good[:8])[0], "header")
        else:
            yield _bytes(draw, good, len(good), "file")


def _value(draw: random.Random, given: Parts) -> tuple[str, bytes]:
    """One entry, or an entry and its mirror image, is another."""
    header, tensors = given
    name = draw.choice(sorted(tensors))
    tensor = tensors[name] = tensors[name].clone()
    at = tuple(draw.randrange(size) for size in tensor.shape)
    old = float(tensor[at])
    new = draw.choice([*WRONG_NUMBERS, old * (1 + 1e-9), old * 1.5, -old, old + 1.0])
    tensor[at] = new
    mirrored = name == stored.MATRIX and draw.random() < 0.5
    if mirrored:
        tensor[at[::-1]] = new
    return f"{name}{list(at)} {old} -> {new}{' and its mirror' * mirrored}", content(
        header, tensors
    )


def _values(draw: random.Random, given: Parts) -> tuple[str, bytes]:
    """A whole tensor is scaled, shifted, negated, shuffled or emptied."""
    header, tensors = given
    name = draw.choice(sorted(tensors))
    tensor = tensors[name]
    changes: dict[str, Callable[[], Tensor]] = {
        "times 1e-300": lambda: tensor * 1e-300, "times 1e30": lambda: tensor * 1e30,
        "times 2": lambda: tensor * 2, "negated": lambda: -tensor, "zero": lambda: tensor * 0,
        "transposed": lambda: tensor.T, "reversed rows": lambda: tensor.flip(0),
        "reversed columns": lambda: tensor.flip(1), "plus 1": lambda: tensor + 1,
        "all nan": lambda: tensor * float("nan"), "lower triangle": lambda: tensor.tril(),
        "minus half its diagonal": lambda: tensor - 0.5 * torch.diag_embed(tensor.diagonal())
        if tensor.shape[0] == tensor.shape[1] else tensor.square(),
    }  # fmt: skip
    what = draw.choice(sorted(changes))
    return f"{name} {what}", content(header, tensors | {name: changes[what]().contiguous()})


def _shape(draw: random.Random, given: Parts) -> tuple[str, bytes]:
    header, tensors = given
    name = draw.choice(sorted(tensors))
    tensor = tensors[name]
    changes = [
        tensor[1:], tensor[:, 1:], tensor[None], tensor[0], tensor[:0], tensor[:, :0],
        tensor.flatten(), torch.cat([tensor, tensor]), torch.cat([tensor, tensor], 1),
        tensor.sum(),
    ]  # fmt: skip
    changed = draw.choice(changes).contiguous()
    return f"{name} of shape {tuple(changed.shape)}", content(header, tensors | {name: changed})


def _type(draw: random.Random, given: Parts) -> tuple[str, bytes]:
    header, tensors = given
    name = draw.choice(sorted(tensors))
    dtype = draw.choice([dtype for dtype in TYPES if dtype != tensors[name].dtype])
    return f"{name} as {dtype}", content(header, tensors | {name: tensors[name].to(dtype)})


def _metadata(draw: random.Random, given: Parts) -> tuple[str, bytes]:
    """One value of the header is another, missing or misplaced; or the text is no JSON."""
    header, tensors = given
    places = [(header, name) for name in sorted(header)]
    places += [(header["provenance"], name) for name in sorted(header["provenance"])]
    owner, name = draw.choice(places)
    if draw.random() < 0.1:
        text = draw.choice(["", "null", "{}", "[" * 100_000, "nonsense", '{"schema": ', "9" * 5000])
        metadata = draw.choice([{"second_moment": text}, {"other": text}, None])
        return f"metadata {str(metadata)[:60]}", save(tensors, metadata=metadata)
    if draw.random() < 0.2:
        del owner[name]
        return f"without {name}", content(header, tensors)
    new = draw.choice(WRONG_VALUES)
    if isinstance(owner[name], float | int) and draw.random() < 0.5:
        new = owner[name] * draw.choice([0.5, 2, 1e6, 1.01]) + draw.choice([0, 1])
    owner[name] = new
    return f"{name} is {str(new)[:40]}", content(header, tensors)


def _missing(draw: random.Random, given: Parts) -> tuple[str, bytes]:
    """A tensor is missing, has another's name, or is one too many."""
    header, tensors = given
    name = draw.choice(sorted(tensors))
    other = draw.choice([*sorted(set(tensors) - {name}), "more", "Moment", "é"])
    kind = draw.choice(["missing", "renamed", "extra", "swapped"])
    changed = dict(tensors)
    if kind in ("missing", "renamed", "swapped"):
        del changed[name]
    if kind in ("renamed", "extra"):
        changed[other] = tensors[name]
    if kind == "swapped":
        changed |= {name: tensors.get(other, tensors[name]), other: tensors[name]}
    changed = {key: tensor.clone() for key, tensor in changed.items()}
    return f"{name} {kind} ({other})", content(header, changed)


def _bytes(draw: random.Random, good: bytes, end: int, where: str) -> tuple[str, bytes]:
    """Some bytes of the first ``end`` are others."""
    changed = bytearray(good)
    places = [draw.randrange(8 if draw.random() < 0.2 else end) for _ in range(draw.randint(1, 3))]
    for place in places:
        changed[place] ^= 1 << draw.randrange(8)
    return f"{where} changed at {places}", bytes(changed)
