"""Lists that ``benchmarks.studies.sequence`` made: evidence, and the tables of docs/sequence.md.

    python -m benchmarks.studies.lists OUT [--write EVIDENCE.json.gz]
    python -m benchmarks.studies.lists EVIDENCE.json.gz

One row a list as it comes, one row a method of hard lists: what was forecast beside what happened.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rome_diagnosis.limits import RECALL_KEPT
from rome_diagnosis.methods import METHODS

EditList = dict[str, Any]
POINT = (
    "edits", "ratio", "recall", "efficacy_all", "efficacy_prefixed", "damage_predicted",
    "damage_first_tokens", "damage_measured",
)  # fmt: skip


def compiled(name: str, found: Mapping[str, Any], model_name: str | None = None) -> EditList:
    """What is kept of a list's document.

    Args:
        name: Its kind, seed and method, as :mod:`benchmarks.studies.sequence` names them.
        found: The document.
        model_name: What to call the model; as the document does, if not given.

    Returns:
        The forecast, the checkpoints and the culprit.
    """
    kind, seed, _ = name.split("-", 2)
    forecast, model = found["forecast"], found["model"]
    of_forecast = ("collapse_at", "collapse_between", "harm_at")
    curve = [
        {
            "edits": point["edits"],
            "damage": point["damage"]["expected"],
            "first_tokens": point["first_tokens"]["expected"],
        }
        for point in forecast["curve"]
    ]
    return {
        "model": model_name or model["name"],
        "fingerprint": model["fingerprint"],
        "weights": model.get("weights"),
        "layer": found["site"]["layer"],
        "method": found["method"],
        "parameters": found["parameters"],
        "batch": found["batch"],
        "kind": kind,
        "seed": int(seed),
        "edits": len(found["edits"]),
        "made": found["performance"]["made"],
        "forecast": {name: forecast[name] for name in of_forecast},
        "dangerous": [one["index"] for one in forecast["dangerous"]],
        "collapse_at": found["collapse_at"],
        "culprit": found["performance"]["culprit"],
        "curve": curve,
        "checkpoints": [{name: point[name] for name in POINT} for point in found["checkpoints"]],
    }


def read(path: Path, model_name: str | None = None) -> dict[str, EditList]:
    """Lists by name: the documents of a folder, or evidence.

    Args:
        path: Either.
        model_name: As :func:`compiled` takes it.

    Returns:
        What :func:`compiled` gives.
    """
    if path.is_dir():
        return {
            file.stem: compiled(file.stem, json.loads(file.read_text(encoding="utf-8")), model_name)
            for file in sorted(path.glob("*-*-*.json"))
        }
    return dict(json.loads(gzip.decompress(path.read_bytes())))


def ordered(lists: Mapping[str, EditList], kind: str) -> Iterator[tuple[str, list[EditList]]]:
    """Each method's lists of a kind, by seed, in the order of the table of methods."""
    for method in METHODS:
        own = [one for one in lists.values() if (one["kind"], one["method"]) == (kind, method)]
        if own:
            yield METHODS[method].label.partition(",")[0], sorted(own, key=lambda one: one["seed"])


def rows(lists: Mapping[str, EditList]) -> Iterator[str]:
    """The table's rows of lists as they come.

    Args:
        lists: By name.

    Yields:
        Method, seed, edits made, collapse forecast and real, damage as forecast, with the residuals
        that came and over the texts, perplexity's ratio, other facts kept, harm forecast and real,
        edits that hold at the bare prompt and after a prefix.
    """
    for name, own in ordered(lists, "mixed"):
        for i, one in enumerate(own):
            last = one["checkpoints"][-1]
            yield _row(
                "" if i else name, one["seed"], one["made"], _forecast(one),
                _at(one["collapse_at"]), _damages(one), _times(last["ratio"]),
                _percent(last["recall"]), f"{_at(one['forecast']['harm_at'])} / {_at(harmed(one))}",
                _answered(last),
            )  # fmt: skip


def hard_rows(lists: Mapping[str, EditList]) -> Iterator[str]:
    """The same of lists of dangerous edits only, all seeds of a method in one row.

    Args:
        lists: By name.

    Yields:
        As :func:`rows`, in the order of the seeds.
    """
    for name, own in ordered(lists, "hard"):
        last = [one["checkpoints"][-1] for one in own]
        yield _row(
            name,
            _all(one["made"] for one in own),
            _all(_at(one["forecast"]["collapse_at"]) for one in own),
            _all(_at(one["collapse_at"]) for one in own),
            "; ".join(_damages(one) for one in own),
            _all(_times(point["ratio"]) for point in last),
            _all(_percent(point["recall"]) for point in last),
            "; ".join(_answered(point) for point in last),
        )


def harmed(one: EditList) -> int | None:
    """The first checkpoint at which too few other facts are kept.

    Args:
        one: A list.

    Returns:
        Its number of edits; ``None`` if there is none.
    """
    points = one["checkpoints"]
    return next((int(at["edits"]) for at in points if at["recall"] < RECALL_KEPT.value), None)


def _row(*cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _all(cells: Any) -> str:
    return ", ".join(map(str, cells))


def _at(edits: int | None) -> str:
    return "none" if edits is None else str(edits)


def _forecast(one: EditList) -> str:
    first, last = one["forecast"]["collapse_between"]
    at = _at(one["forecast"]["collapse_at"])
    if first is None:
        return at
    return f"{at} ({first} or later)" if last is None else f"{at} ({first} to {last})"


def _damages(one: EditList) -> str:
    last = one["checkpoints"][-1]
    at = next(point for point in one["curve"] if point["edits"] >= last["edits"])
    values = (at["damage"], last["damage_predicted"], last["damage_measured"])
    return " / ".join(f"{100 * value:.0f}" for value in values) + " %"


def _times(ratio: float) -> str:
    return f"×{ratio:,.0f}" if ratio >= 100 else f"×{ratio:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _answered(point: Mapping[str, Any]) -> str:
    return f"{_percent(point['efficacy_all'])} / {_percent(point['efficacy_prefixed'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", type=Path, metavar="OUT", help="documents, or evidence")
    parser.add_argument("--name", help="what to call the model in the evidence")
    parser.add_argument("--write", type=Path, metavar="FILE", help="evidence of the documents")
    options = parser.parse_args()
    lists = read(options.lists, options.name)
    print("\n".join([*rows(lists), "", *hard_rows(lists)]))
    if options.write:
        text = json.dumps(lists, ensure_ascii=False).encode()
        options.write.write_bytes(gzip.compress(text, mtime=0))


if __name__ == "__main__":
    main()
