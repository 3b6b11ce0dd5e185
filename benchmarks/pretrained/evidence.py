"""What the study on a pretrained model rests on: its parts in one file, small enough to be kept.

    python -m benchmarks.pretrained.evidence FOLDER -o docs/evidence/pretrained.json.gz

Texts that models generated are left out. Beside each edit stands what follows from its keys alone:
the share φ of the change that the bare prompt and its prefixed ones receive, and the mean push, the
length of the mean (not of the root mean square) change of the stream over later tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from diag.mathematics.update import chosen
from probes.keys.observe import observe
from probes.model.loaded import LoadedModel
from probes.request.request import request
from probes.second_moment.choose import for_model
from probes.second_moment.moment import SecondMoment
from probes.setup import Setup
from rome_diagnosis.editors import EDITORS

KEPT = ("contexts", "settings", "limits", "texts", "known_facts")
ARM = (
    "denominator", "denominator_normalised", "numerator_norm", "update_norm",
    "relative_update_norm", "damage", "recall", "generalisation", "locality",
)  # fmt: skip
EFFICACY = ("p_before", "p_after", "p_true_after", "rank_after", "success", "success_before")


def parts(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The parts that are complete, in order: their names and documents."""
    for path in sorted(folder.glob("part-*.json")):
        yield path.stem.removeprefix("part-"), json.loads(path.read_text(encoding="utf-8"))


def slim(edit: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an edit, without texts."""
    return {
        "request": {
            name: edit["request"][name]
            for name in ("subject", "prompt", "target_new", "target_true", "case_id")
        },
        "site": edit["site"],
        "optimisation": {
            name: value for name, value in edit["optimisation"].items() if name != "losses"
        },
        "prediction": {
            name: edit["prediction"][name] for name in ("verdict", "relative_bound", "agreement")
        },
        "outcome": edit["outcome"],
        "collapsed": edit["collapsed"],
        "arms": {name: _arm(arm) for name, arm in edit["arms"].items()},
    }


def _arm(arm: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: arm[name] for name in ARM}
    figures["perplexity"] = {
        name: value for name, value in arm["perplexity"].items() if name != "bos"
    }
    figures["efficacy"] = {name: arm["efficacy"][name] for name in EFFICACY}
    if "unseen_prefix" in arm:
        unseen = arm["unseen_prefix"]["efficacy"]
        figures["unseen_prefix"] = {"efficacy": {name: unseen[name] for name in EFFICACY}}
    return figures


def of_keys(
    model: LoadedModel, moment: SecondMoment, edit: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What follows from an edit's keys.

    Args:
        model: The model.
        moment: C of the edited block.
        edit: A performed edit.
        settings: Its run's, for the prefixes.

    Returns:
        For each editor ``response`` (φ at ``bare``, ``editing_prefix`` and ``unseen_prefix``) and
        ``mean_push`` in units of the stream's norm.
    """
    asked = request(edit["request"]["subject"], edit["request"]["prompt"])
    prefixes = settings["prefixes"]
    seen = observe(model, asked, edit["site"]["layer"], [*prefixes, settings["unseen_prefix"]])
    keys = seen.keys[:-1]
    tested = {"bare": keys[0], "editing_prefix": keys[1], "unseen_prefix": seen.keys[-1]}
    background = moment.background
    assert background is not None
    mean = background.later_keys.double().mean(0)
    unit = background.residual_norm / abs(seen.contribution.scale or 1.0)
    result: dict[str, Any] = {"response": {}, "mean_push": {}}
    for name, editor in EDITORS.items():
        u = moment.solve(chosen(keys, editor.along))
        denominator = float(u @ chosen(keys, editor.divide_by))
        arm = edit["arms"][name]
        assert abs(denominator / arm["denominator"] - 1) < 1e-3, (denominator, arm)
        result["response"][name] = {at: float(u @ key) / denominator for at, key in tested.items()}
        push = abs(float(u @ mean) / denominator) * arm["numerator_norm"]
        result["mean_push"][name] = push / unit
    return result


def collect(folder: Path) -> dict[str, Any]:
    """All complete parts as one document.

    Args:
        folder: The folder that :mod:`benchmarks.pretrained.perform` filled.

    Returns:
        What the runs have in common, and every edit that was performed.
    """
    complete = dict(parts(folder))
    documents = list(complete.values())
    head = documents[0]
    name = head["model"]["name"]
    model = Setup(model=name, quiet=True).load()
    assert model.fingerprint == head["model"]["fingerprint"]
    layers = sorted({document["site"]["layer"] for document in documents})
    moments = {at: for_model(model, at, str(folder / f"c-{at}.safetensors")) for at in layers}
    edits = []
    for part, document in complete.items():
        at = document["site"]["layer"]
        share = document["second_moment"]["position0_share"]
        for edit in document["edits"]:
            if "error" not in edit:
                keys = of_keys(model, moments[at], edit, document["settings"])
                edits.append({"part": part, **slim(edit), **keys, "position0_share": share})
    weights = {at: model.output_weight(at).double() for at in layers}
    return {
        "schema": "benchmarks.pretrained/1",
        **{name: head[name] for name in KEPT},
        "model": {name: value for name, value in head["model"].items() if name != "path"},
        "notes": head["notes"],
        "second_moments": {
            str(document["site"]["layer"]): document["second_moment"] | {"source": "estimated"}
            for document in documents
        },
        "spectral_norms": {
            str(at): float(torch.linalg.matrix_norm(w, 2)) for at, w in weights.items()
        },
        "errors": sum("error" in edit for document in documents for edit in document["edits"]),
        "edits": edits,
    }


def rounded(value: Any) -> Any:
    """Numbers to six significant digits: what float32 and a file that is kept allow."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    document = collect(options.folder)
    text = json.dumps(rounded(document), ensure_ascii=False)
    options.output.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(document['edits'])} edits, {options.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
