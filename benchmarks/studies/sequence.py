"""Makes lists of edits of the bundled model, and holds the forecast of each against what happened.

    python -m benchmarks.studies.sequence OUT [--counterfact FILE] [--seeds 3] [--edits 200]
        [--single 20] [--methods rome,c_rome,memit,memit_seq,alphaedit]
        [--kinds hard,ordinary,mixed] [--only 'mixed-0-*'] [--model NAME] [--layer 8]
        [--second-moment FILE]

Lists come from COUNTERFACT where a file of it is given, else from the bundled world: ``mixed`` as
they come, ``ordinary`` without edits that are dangerous alone, ``hard`` of these only, and
``single``, short ones with one dangerous edit among harmless ones; what is dangerous alone is
said of the published editor. λ is to the model's keys what 15,000 is to GPT-J's. Every finished
list is a document in OUT, and a list that was interrupted resumes from its journal beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from benchmarks.family import like_published
from diag.sequence import performance, sequence
from diag.sequence.run import Performing
from diag.verify.settings import Texts
from probes import bundled
from probes.model.loaded import LoadedModel
from probes.request.cases import EditCase, from_record
from probes.request.records import read_edits
from probes.setup import Setup, load_model
from rome_diagnosis.disk import files
from rome_diagnosis.editors import PUBLISHED, REMEDY
from rome_diagnosis.methods import METHODS

SHORT = 8  # edits of a list with one dangerous edit
POOL = 3000  # edits that are forecast to choose from


@dataclass(frozen=True)
class Job:
    """One list.

    Attributes:
        name: Name of its document, without the extension.
        method: Its name.
        cases: The edits.
    """

    name: str
    method: str
    cases: Sequence[EditCase]


def pool(path: str | None, seed: int) -> list[EditCase]:
    """Edits to choose from, in an order of the seed's own."""
    if path is None:
        cases = [from_record(record) for record in bundled.facts()]
    else:
        cases = list(read_edits(path).cases)
    random.Random(seed).shuffle(cases)
    return cases[:POOL]


def split(at: Setup, cases: list[EditCase]) -> tuple[list[EditCase], list[EditCase]]:
    """Harmless edits and those whose damage alone is a risk of collapse, by the forecast."""
    document = sequence(cases, **at.options()).document
    verdicts = {edit["index"]: edit["verdict"] for edit in document["edits"]}
    safe = [case for i, case in enumerate(cases) if verdicts.get(i) == "safe"]
    hard = [case for i, case in enumerate(cases) if verdicts.get(i) == "collapse_risk"]
    return safe, hard


def jobs(at: Setup, options: argparse.Namespace) -> Iterator[Job]:
    """The lists, the short ones first."""
    n, kinds = options.edits, options.kinds.split(",")
    for seed in range(options.seeds):
        cases = pool(options.counterfact, seed)
        safe, hard = split(at, cases) if options.single or kinds != ["mixed"] else ([], [])
        draw = random.Random(seed)
        for i in range(-(-options.single // options.seeds)):
            some = safe[SHORT * i : SHORT * (i + 1)]
            some[draw.randrange(SHORT)] = hard[i % len(hard)]
            yield Job(f"single-{seed}-{i}-{PUBLISHED}", PUBLISHED, some)
        lists = {"hard": hard[:n], "ordinary": safe[:n], "mixed": cases[:n]}
        for kind in kinds:
            for method in options.methods.split(","):
                yield Job(f"{kind}-{seed}-{method}", method, lists[kind])


def run(at: Setup, job: Job, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A list's document: the one that is there, or a new one."""
    target, journal = folder / f"{job.name}.json", folder / f"{job.name}.journal"
    if not target.exists():
        began = time.perf_counter()
        assert isinstance(at.model, LoadedModel)
        weight = like_published(int(at.model.config.d_mlp))["memit"]
        own = weight if "weight" in METHODS[job.method].parameters else None
        document = dict(
            sequence(
                list(job.cases), method=job.method, batch=options.batch, parameters=own,
                texts=Texts.read(options.text_file, limit=options.texts), generated_tokens=10,
                performing=Performing(str(journal)), **at.options(),
            ).document
        )  # fmt: skip
        document["seconds"] = time.perf_counter() - began
        files.write_text(target, json.dumps(document))
        journal.unlink()
    read: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return read


def row(name: str, found: dict[str, Any]) -> str:
    """What was forecast of a list beside what happened."""
    forecast, last = found["forecast"], found["checkpoints"][-1]
    culprit = found["performance"]["culprit"]
    n_made = found["performance"]["made"]
    expected = forecast["damage"][last["edits"] - 1]
    named = "–"
    if culprit is not None and culprit["alone"]:
        dangerous = {one["index"] for one in forecast["dangerous"]}
        named = "named" if culprit["index"] in dangerous else "missed"
    ratio = "–" if last["ratio"] is None else f"{last['ratio']:.3g}"
    return (
        f"{name:28} {n_made:4} made  forecast {forecast['collapse_at']!s:>5} "
        f"real {found['collapse_at']!s:>5}  culprit {named:6} "
        f"damage {expected:.3f} forecast {last['damage_predicted']:.3f} predicted "
        f"{last['damage_measured']:.3f} measured  perplexity ×{ratio:9} "
        f"{found['seconds']:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", metavar="OUT")
    parser.add_argument("--counterfact", metavar="FILE", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--single", type=int, default=20, help="lists with one dangerous edit")
    parser.add_argument("--methods", default=f"{PUBLISHED},{REMEDY},memit,memit_seq,alphaedit")
    parser.add_argument("--kinds", default="hard,ordinary,mixed")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--checkpoints", type=int, default=12, help="about how many")
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--only", metavar="PATTERN", default="*", help="names of lists to make")
    parser.add_argument("--model", default=None)
    parser.add_argument("--layer", type=int, default=None)
    parser.add_argument("--second-moment", default="auto")
    parser.add_argument("--text-file", default=None, help="texts whose perplexity is measured")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    performance.CHECKPOINTS = options.checkpoints
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    at = Setup(
        model=load_model(options.model),
        layer=options.layer,
        second_moment=options.second_moment,
        quiet=True,
    )
    done = {}
    for job in jobs(at, options):
        if not fnmatch(job.name, options.only):
            continue
        done[job.name] = run(at, job, folder, options)
        print(row(job.name, done[job.name]), flush=True)
    summary(done)


def summary(done: dict[str, dict[str, Any]]) -> None:
    """What the lists say together."""
    alone = [
        document
        for document in done.values()
        if (document["performance"]["culprit"] or {}).get("alone")
    ]
    named = sum(
        document["performance"]["culprit"]["index"]
        in {one["index"] for one in document["forecast"]["dangerous"]}
        for document in alone
    )
    print(
        f"one edit broke the model in {len(alone)} lists, and the forecast had named it in {named}"
    )
    both = {
        name: document["forecast"]["collapse_at"] / document["collapse_at"]
        for name, document in done.items()
        if name.startswith("ordinary")
        and document["forecast"]["collapse_at"]
        and document["collapse_at"]
    }
    print("ordinary lists, forecast over real number of edits:",
          ", ".join(f"{name} {ratio:.2f}" for name, ratio in both.items()))  # fmt: skip


if __name__ == "__main__":
    main()
