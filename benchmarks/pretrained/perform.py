"""Edits of COUNTERFACT on a pretrained model, performed with every editor and kept part by part.

    python -m benchmarks.pretrained.perform COUNTERFACT.json … --texts ME-PPL_1k.json \
        --corpus ME-PPL.json --layers 8,5 -o FOLDER

A part is sixteen edits: eight of one-token subjects at the start of the prompt, four of longer
subjects there, four of subjects with something before them. At each block it becomes a
``diag.verify/1`` document; a run that was killed resumes from the journal of the part it was in.
C is estimated on the corpus without the texts that perplexity is measured on.

An edit costs half a minute of one core at 135 million parameters, most of it products with W.
What can be saved without touching what the study is about is saved: v* is optimised over every
third context (keys, ρ and the updates take all of them), and few texts and facts are measured.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from diag.verify.behaviour import spread
from diag.verify.one_edit import Bench
from diag.verify.run import Verifier, prepare
from diag.verify.settings import Facts, Settings, Texts
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase
from probes.request.lookup import lookup
from probes.request.records import Edits, read_edits
from probes.second_moment.estimate import estimate_layers
from probes.second_moment.stored import save
from probes.setup import Setup
from probes.target_value.hyperparameters import Hyperparameters
from probes.target_value.optimise import TargetValue, optimise
from probes.text.corpus import Corpus
from probes.text.documents import read_texts
from rome_diagnosis.disk import files
from rome_diagnosis.errors import UserError

PART = {"first, one token": 8, "first, several tokens": 4, "later": 4}
EACH = 4  # edits of one subject, at most
EVERY = 3  # contexts of v*: the bare prompt, and of the prefixes every third
ROW_LENGTH = 512


class FewContexts(Bench):
    """A bench that optimises v* over fewer contexts than it takes keys in."""

    def target_values(self, cases: Sequence[EditCase]) -> list[TargetValue]:
        """See :meth:`diag.verify.one_edit.Bench.target_values`."""
        return optimise(
            self.model,
            [case.request for case in cases],
            self.prefixes[::EVERY],
            self.layer,
            self.settings.hyperparameters,
        )

    @classmethod
    def of(cls, bench: Bench) -> FewContexts:
        """The same bench, with what it has measured."""
        fewer = cls.__new__(cls)
        vars(fewer).update(vars(bench))
        return fewer


def kind(model: LoadedModel, case: EditCase) -> str | None:
    """Which of :data:`PART` an edit belongs to; ``None`` if it cannot be made."""
    edit = case.request
    try:
        alone = lookup(model, edit, "").is_first_token
    except UserError:
        return None
    if edit.before:
        return "later"
    return f"first, {'one token' if alone else 'several tokens'}"


def choose(model: LoadedModel, cases: Sequence[EditCase], seed: int) -> Iterator[list[EditCase]]:
    """Draws parts until one kind of edit is used up.

    Args:
        model: Its tokenizer says what a first token is.
        cases: The edits to draw from.
        seed: Seed of the draw.

    Yields:
        The edits of a part, kind by kind.
    """
    spare: dict[str, list[EditCase]] = {name: [] for name in PART}
    seen: Counter[str] = Counter()
    for case in random.Random(seed).sample(cases, len(cases)):
        own = kind(model, case) if seen[case.request.subject] < EACH else None
        if own is None:
            continue
        seen[case.request.subject] += 1
        spare[own].append(case)
        if all(len(spare[name]) >= n for name, n in PART.items()):
            yield [spare[name].pop(0) for name, n in PART.items() for _ in range(n)]


@dataclass(frozen=True)
class Study:
    """What is edited, and how.

    Attributes:
        arguments: The command line.
    """

    arguments: argparse.Namespace

    @property
    def folder(self) -> Path:
        """Where everything is kept."""
        return Path(self.arguments.output)

    @cached_property
    def model(self) -> LoadedModel:
        """The model."""
        return Setup(model=self.arguments.model, quiet=True).load()

    def moments(self) -> str:
        """Estimates C where it is missing; a name with ``{layer}`` in it."""
        name = str(self.folder / "c-{layer}.safetensors")
        layers = sorted(set(self.arguments.layers))
        missing = [layer for layer in layers if not Path(name.format(layer=layer)).exists()]
        if missing:
            measured_on = set(read_texts(self.arguments.texts))
            texts = read_texts(self.arguments.corpus)
            corpus = Corpus.of(
                Path(self.arguments.corpus).name,
                [text for text in texts if text not in measured_on],
            )
            for layer, moment in estimate_layers(
                self.model,
                missing,
                corpus,
                max_tokens=self.arguments.tokens,
                row_length=ROW_LENGTH,
            ):
                save(moment, name.format(layer=layer))
        return name

    @cached_property
    def settings(self) -> Settings:
        """What is measured."""
        facts = Facts.for_model(self.model.name)
        return Settings(
            texts=Texts.read(self.arguments.texts, limit=self.arguments.max_texts),
            facts=Facts(facts.source, tuple(spread(facts.cases, self.arguments.max_facts))),
            hyperparameters=Hyperparameters(evaluations=self.arguments.evaluations),
            generated_tokens=1,
            c_rome_target=self.arguments.c_rome_target,
        )

    def run(self, layer: int, moment: str) -> Verifier:
        """A run at one block."""
        at = Setup(model=self.model, layer=layer, second_moment=moment.format(layer=layer))
        run = prepare(at.prepare(), self.settings)
        bench = FewContexts.of(run.bench)
        few = f"v* is optimised over every {EVERY}rd prefix and the bare prompt"
        return Verifier(bench, {**run.head, "notes": [*run.head["notes"], few]})

    def perform(self) -> None:
        """Performs each part at each block."""
        arguments = self.arguments
        self.folder.mkdir(parents=True, exist_ok=True)
        moment = self.moments()
        cases = [case for path in arguments.edits for case in read_edits(path).cases]
        runs: dict[int, Verifier] = {}
        for i, part in enumerate(choose(self.model, cases, arguments.seed)):
            for layer in arguments.layers:
                path = self.folder / f"part-{i:02}-L{layer}.json"
                if i >= arguments.parts or path.exists():
                    continue
                if layer not in runs:
                    runs[layer] = self.run(layer, moment)
                one_part(runs[layer], part, path)


def one_part(run: Verifier, cases: list[EditCase], path: Path) -> None:
    """Performs a part and writes its document."""
    start = time.perf_counter()
    journal = Path(f"{path}.journal")

    def progress(done: int) -> None:
        print(f"\r{path.name} {done}", end="", file=sys.stderr, flush=True)

    result = run.many(Edits(tuple(cases)), journal=str(journal), progress=progress)
    files.write_text(path, result.to_json())
    journal.unlink()
    print(f" {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Performs the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("edits", nargs="+", help="COUNTERFACT, in any published format")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument(
        "--layers", type=lambda text: [int(n) for n in text.split(",")], default=[8],
        help="blocks to edit",
    )  # fmt: skip
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--texts", required=True, help="texts for perplexity")
    parser.add_argument("--max-texts", type=int, default=16)
    parser.add_argument("--corpus", required=True, help="ordinary text, for C")
    parser.add_argument("--tokens", type=int, default=80_000, help="of the corpus")
    parser.add_argument("--max-facts", type=int, default=84, help="to be asked for recall")
    parser.add_argument("--evaluations", type=int, default=16, help="of the loss, for v*")
    parser.add_argument("--c-rome-target", choices=("published", "consistent"), default="published")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER")
    Study(parser.parse_args()).perform()


if __name__ == "__main__":
    main()
