"""Is a first token's key strange because of the sink? ρ without the sink's massive coordinates.

    python -m benchmarks.pretrained.sink --model smollm2 --second-moment 'c-{layer}.safetensors' \
        --layers 5,8 --record docs/evidence/smollm2-sink.json
    python -m benchmarks.pretrained.sink docs/evidence/smollm2-sink.json

Wherever three coordinates carry most of the first position's stream they are set to zero, before
each block that reads it: in the bare prompt, where the subject stands at that position, and after
prefixes, where it only attends to it. As many other coordinates, drawn anew for each block, are
the control. Subjects are words that the tokenizer has as one token with and without a space.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import batches
from probes.forward.bridge import Hook, run_to
from probes.keys.one_edit import at_last
from probes.keys.sink import SinkRecorder
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import Request, request
from probes.second_moment.moment import SecondMoment
from probes.setup import Setup
from probes.statistics import estimate_mean
from rome_diagnosis import options
from rome_diagnosis.disk import files

Coordinates = Mapping[int, Sequence[int]]
PROMPT = "{} is"
CARRIED = 0.5  # of the squared norm
NONE: Coordinates = {}


def words(model: LoadedModel, n: int, seed: int) -> list[Request]:
    """Capitalised words that are one token, at the start of a text and after a space."""
    vocabulary = model.tokenizer.get_vocab()
    names = sorted(
        token for token in vocabulary
        if token.isascii() and token.isalpha() and token.istitle() and len(token) > 3
        and f"Ġ{token}" in vocabulary
    )  # fmt: skip
    return [request(name, PROMPT) for name in random.Random(seed).sample(names, n)]


@dataclass(frozen=True)
class Sink:
    """A model whose first position can be changed.

    Attributes:
        model: The model.
        layers: The blocks whose keys are read.
    """

    model: LoadedModel
    layers: Sequence[int]

    def coordinates(self, rows: Sequence[Sequence[int]]) -> dict[int, list[int]]:
        """Those that carry the first position's stream, at every block where a few do."""
        recorder = SinkRecorder(self.model, max(self.layers))
        for batch in batches(rows, self.model):
            run_to(self.model, batch, recorder.last, recorder.hooks(batch))
        return {
            at.block: at.coordinates for at in recorder.first_positions() if at.share >= CARRIED
        }

    def keys(
        self, rows: Sequence[Sequence[int]], without: Coordinates
    ) -> dict[int, Float[Tensor, "row d_mlp"]]:
        """Keys at the last token of each row, the first position's coordinates set to zero."""
        read: dict[int, dict[int, Tensor]] = {layer: {} for layer in self.layers}

        def zero(block: int) -> Any:
            def hook(stream: Tensor, hook: Any) -> Tensor:
                changed = stream.clone()
                changed[:, 0, list(without[block])] = 0.0
                return changed

            return hook

        hooks: list[Hook] = [(self.model.hook(at, "resid_pre"), zero(at)) for at in without]
        for batch in batches(rows, self.model):
            reading = [(self.model.hook(at, "key"), at_last(batch, read[at])) for at in read]
            run_to(self.model, batch, max(self.layers), [*hooks, *reading])
        return {
            layer: torch.stack([by_row[row] for row in range(len(rows))])
            for layer, by_row in read.items()
        }


def rho(
    bare: Float[Tensor, "m d_mlp"], prefixed: Float[Tensor, "m n d_mlp"], moment: SecondMoment
) -> list[float]:
    """ρ of each subject: the bare key against the mean over it and the prefixed ones."""
    mean = torch.cat([bare[:, None], prefixed], dim=1).mean(1)
    solved = moment.solve(mean)
    ratio: list[float] = ((solved * bare).sum(-1) / (solved * mean).sum(-1)).tolist()
    return ratio


def record(arguments: argparse.Namespace) -> dict[str, Any]:
    """ρ of every subject under every intervention, as plain JSON values."""
    setup = Setup(model=arguments.model, quiet=True)
    model, layers = setup.load(), list(arguments.layers)
    edits = words(model, arguments.subjects, arguments.seed)
    contexts = setup.choose_prefixes(model)
    bare = [lookup(model, edit).ids for edit in edits]
    after = [lookup(model, edit, prefix).ids for edit in edits for prefix in contexts]
    sink = Sink(model, layers)
    massive = sink.coordinates(bare)
    generator = random.Random(arguments.seed)
    d_model = int(model.config.d_model)
    others = {
        block: generator.sample([i for i in range(d_model) if i not in own], len(own))
        for block, own in massive.items()
    }
    document: dict[str, Any] = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "subjects": [edit.subject for edit in edits],
        "coordinates": {str(block): own for block, own in massive.items()},
        "rho": {},
    }
    gone = {"as it is": NONE, "removed": massive, "control": others}
    k = {name: (sink.keys(bare, at), sink.keys(after, at)) for name, at in gone.items()}
    pairs = {
        "as it is": ("as it is", "as it is"),
        "removed at the subject": ("removed", "as it is"),
        "removed at the prefix's first token": ("as it is", "removed"),
        "removed at both": ("removed", "removed"),
        "control, at the subject": ("control", "as it is"),
        "control, at the prefix's first token": ("as it is", "control"),
    }
    for layer in layers:
        moment = Setup(model=model, layer=layer, quiet=True, second_moment=arguments.second_moment
                       .format(layer=layer)).find_moment(model, layer)  # fmt: skip
        document["rho"][str(layer)] = {
            name: [
                round(value, 6)
                for value in rho(
                    k[first][0][layer],
                    k[second][1][layer].unflatten(0, (len(edits), -1)),
                    moment,
                )
            ]
            for name, (first, second) in pairs.items()
        }
    return document


def table(recorded: Mapping[str, Any]) -> pd.DataFrame:
    """Mean ρ with its interval over the draw of the subjects, by block and intervention."""

    def shown(values: Sequence[float]) -> str:
        mean = estimate_mean(values)
        assert mean is not None
        return f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"

    return pd.DataFrame(
        {
            f"block {layer}": {name: shown(values) for name, values in by_name.items()}
            for layer, by_name in recorded["rho"].items()
        }
    )


def main() -> None:
    """Measures, or shows what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recorded", nargs="?", help="a recorded result to show")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--layers", type=options.layers, default=(5, 8))
    parser.add_argument("--second-moment", default="auto", help="a name with {layer} in it")
    parser.add_argument("--subjects", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.recorded:
        document = json.loads(Path(arguments.recorded).read_text(encoding="utf-8"))
    else:
        document = record(arguments)
        if arguments.record:
            files.write_text(arguments.record, json.dumps(document) + "\n")
    print(
        f"ρ, mean over {len(document['subjects'])} subjects; coordinates are set to zero where "
        f"they carry the stream, at blocks {', '.join(document['coordinates'])}\n"
    )
    print(table(document).to_string())


if __name__ == "__main__":
    main()
