"""Documents that are wrong in one place or a few, made from good ones: seeded, so repeatable."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Place = tuple[Any, str | int]  # a container and a key or index in it

# Written by json.dumps as texts, then put into the file as they are.
LITERALS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "1" + "0" * 400, "01")
HOSTILE = (
    "", " ", "\x1b[2J\x1b]0;owned\x07", "\x00", "\r\n| a |\n# b", "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}{% for x in d %}", "[a](javascript:alert(1))",
    "`" * 40, "\u202e\u2066evil", "\ud800", "\udfff\ud800", "שלום", "🙂" * 30, "x" * 50_000,
    "[bold red]markup[/]", "$\\mathbf{x$", "$x_{", "{}", "{} {}", "a{}b", "%s%n", "\u2028", "NaN",
    "collapse_risk", "rome", "prefixed", "../../etc/passwd", "-rf", "constructor", "0", "-1",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**9, 2**63, -(10**30), 0.0, -0.0, 1.0, 0.5, -1.5, 1e-320,
    1e-300, 1e12, 1e300, 1.7e308, -1.7e308, [], {}, [None], [1, 2], [[1.0, 2.0]], {"a": 1},
    {"mean": 1.0, "low": 0.0, "high": 2.0, "n": 3}, "text",
)  # fmt: skip
SCHEMAS = (
    "diag.keys/1", "diag.verify/1", "diag.screen/1", "diag.covariance/1", "probes.first_token/1",
    "diag.sequence/1", "diag.sweep/1", "diag.batch/1", "diag.hardcases/1", "diag.keys/2",
    "diag.tasks/1", "diag.compare/1", "diag.surrogate/1", "diag.screen_layers/1",
    "DIAG.KEYS/1", "diag.keys/1 ", "\x1b[31m", "", None, 1, ["diag.keys/1"],
)  # fmt: skip
FACTORS = (0.0, -1.0, 0.5, 2.0, 10.0, 1e-12, 1e12, 1e-200, 1e200)


def mutants(document: Any, n: int, *, seed: str) -> Iterator[tuple[str, bytes]]:
    """Files that were good documents.

    Args:
        document: A good document; stays as it is.
        n: Number of files.
        seed: Seed of the choices.

    Yields:
        What was done, and the file's content.
    """
    for i in range(n):
        draw = random.Random(f"{seed}:{i}")
        changed = copy.deepcopy(document)
        done = []
        # Mostly one mutation: a second one hides what the first would have done.
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            mutate = draw.choice(MUTATIONS)
            done.append(mutate.__name__)
            changed = mutate(changed, draw)
        content = _written(changed)
        if draw.random() < 0.12:
            spoil = draw.choice(SPOILINGS)
            done.append(spoil.__name__)
            content = spoil(content, draw)
        yield " + ".join(done), content


def _written(document: Any) -> bytes:
    text = json.dumps(document)
    for literal in LITERALS:
        text = text.replace(json.dumps(f"literal:{literal}"), literal)
    return text.replace("duplicate:", "").encode()


def places(value: Any) -> list[Place]:
    """Every container in a document, with every key or index in it."""
    every: list[Place] = []
    waiting = [value]
    while waiting:
        at = waiting.pop()
        steps = list(at) if isinstance(at, dict) else range(len(at))
        for step in steps:
            every.append((at, step))
            if isinstance(at[step], dict | list):
                waiting.append(at[step])
    return every


def _place(document: Any, draw: random.Random, *kinds: type) -> Place | None:
    """A random place, as likely in a short list as in a long one; of some kinds of values only."""
    level = document
    while isinstance(level, dict | list) and level:
        step = draw.choice(list(level) if isinstance(level, dict) else range(len(level)))
        below = level[step]
        if not isinstance(below, dict | list) or not below or draw.random() < 0.2:
            if not kinds or type(below) in kinds:
                return level, step
            break
        level = below
    suitable = [(at, s) for at, s in places(document) if not kinds or type(at[s]) in kinds]
    return draw.choice(suitable) if suitable else None


def _set(document: Any, draw: random.Random, value: Any, *kinds: type) -> Any:
    if place := _place(document, draw, *kinds):
        at, step = place
        at[step] = value
    return document


def delete(document: Any, draw: random.Random) -> Any:
    """Takes a field or an element away."""
    if place := _place(document, draw):
        at, step = place
        del at[step]
    return document


def retype(document: Any, draw: random.Random) -> Any:
    """Puts another value in place of one."""
    return _set(document, draw, copy.deepcopy(draw.choice(VALUES)))


def spoil_text(document: Any, draw: random.Random) -> Any:
    """Puts a hostile text in place of a text."""
    return _set(document, draw, draw.choice(HOSTILE), str)


def text_anywhere(document: Any, draw: random.Random) -> Any:
    """Puts a hostile text in place of anything."""
    return _set(document, draw, draw.choice(HOSTILE))


def literal(document: Any, draw: random.Random) -> Any:
    """Puts a number that JSON or Python cannot hold in place of a number."""
    return _set(document, draw, f"literal:{draw.choice(LITERALS)}", int, float)


def scale(document: Any, draw: random.Random) -> Any:
    """Multiplies a number."""
    if place := _place(document, draw, float):
        at, step = place
        at[step] *= draw.choice(FACTORS)
    return document


def huge(document: Any, draw: random.Random) -> Any:
    """Puts a number of extreme size in place of a number."""
    value = draw.choice((1.7e308, -1.7e308, 1e300, 1e-300, 5e-324, 0.0, -1e30, 1e30))
    return _set(document, draw, value, float)


def count(document: Any, draw: random.Random) -> Any:
    """Puts another whole number in place of one."""
    return _set(document, draw, draw.choice((0, 1, 2, 7, -1, 10**6, 2**62, 2**64)), int)


def null(document: Any, draw: random.Random) -> Any:
    """Puts null in place of a value."""
    return _set(document, draw, None)


def nest(document: Any, draw: random.Random) -> Any:
    """Wraps a value, once or very often."""
    if place := _place(document, draw):
        at, step = place
        for _ in range(draw.choice((1, 1, 2, 60, 150))):
            at[step] = [at[step]] if draw.random() < 0.5 else {"a": at[step]}
    return document


def copy_elsewhere(document: Any, draw: random.Random) -> Any:
    """Puts a copy of one part in place of another."""
    one, other = _place(document, draw), _place(document, draw)
    if one and other:
        other[0][other[1]] = copy.deepcopy(one[0][one[1]])
    return document


def lists(document: Any, draw: random.Random) -> Any:
    """Makes a list empty, shorter or longer."""
    if place := _place(document, draw, list):
        at, step = place
        old = at[step]
        at[step] = draw.choice(([], old[:1], old[:-1], old + old[-1:], old[::-1]))
    return document


def rename(document: Any, draw: random.Random) -> Any:
    """Gives a field another name."""
    fields = [(at, step) for at, step in places(document) if isinstance(at, dict)]
    if fields:
        at, step = draw.choice(fields)
        at[draw.choice((*HOSTILE, "memit", str(step).upper()))] = at.pop(step)
    return document


def add(document: Any, draw: random.Random) -> Any:
    """Adds a field nobody knows."""
    fields = [at for at, _ in places(document) if isinstance(at, dict)]
    if fields:
        name = draw.choice((*HOSTILE, "memit", "later"))
        draw.choice(fields)[name] = copy.deepcopy(draw.choice((*VALUES, *HOSTILE)))
    return document


def duplicate(document: Any, draw: random.Random) -> Any:
    """Gives a name twice in one object."""
    fields = [(at, step) for at, step in places(document) if isinstance(at, dict)]
    if fields:
        at, step = draw.choice(fields)
        at[f"duplicate:{step}"] = copy.deepcopy(draw.choice((at[step], *VALUES)))
    return document


def schema(document: Any, draw: random.Random) -> Any:
    """Names another schema."""
    if isinstance(document, dict):
        document["schema"] = draw.choice(SCHEMAS)
    return document


def truncate(content: bytes, draw: random.Random) -> bytes:
    """Cuts a file off."""
    return content[: draw.randrange(len(content) + 1)]


def flip(content: bytes, draw: random.Random) -> bytes:
    """Changes some bytes."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 2, 20))):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def bury(content: bytes, draw: random.Random) -> bytes:
    """Nests a file deeper than a parser follows."""
    depth = draw.choice((500, 5_000, 100_000))
    return b'{"schema": "diag.keys/1", "a": ' + b"[" * depth + content + b"]" * depth + b"}"


def squeeze(content: bytes, draw: random.Random) -> bytes:
    """Compresses a file, and perhaps cuts it off, or makes a small bomb of it."""
    packed = gzip.compress(draw.choice((content, content + b" " * (8 << 20))), mtime=0)
    return packed if draw.random() < 0.5 else packed[: draw.randrange(len(packed))]


def encode(content: bytes, draw: random.Random) -> bytes:
    """Writes a file in another encoding, or with a byte-order mark."""
    text = content.decode()
    return draw.choice(
        (b"\xef\xbb\xbf" + content, text.encode("utf-16"), text.encode("utf-32"), content + content)
    )


# What can leave a document valid comes often: a document that is refused shows no renderer.
MUTATIONS: tuple[Callable[[Any, random.Random], Any], ...] = (
    delete, retype, text_anywhere, literal, nest, copy_elsewhere, rename, add, duplicate, schema,
    *[spoil_text, scale, huge, count, null, lists] * 4,
)  # fmt: skip
SPOILINGS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncate, flip, bury, squeeze, encode,
)  # fmt: skip
