"""A run of :mod:`diag.covariance`: what is asked for is checked, measured and written down."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes import memory
from rome_diagnosis import envelope
from rome_diagnosis.disk import files
from rome_diagnosis.progress import Progress, note

if TYPE_CHECKING:
    from diag.covariance.result import SecondMoments
    from probes.model.loaded import LoadedModel
    from probes.ranks import Ranks
    from probes.second_moment.corpus_pass import Pass
    from probes.second_moment.imported import Published
    from probes.second_moment.moment import SecondMoment
    from probes.second_moment.sums import Accumulator
    from probes.text.corpus import Corpus

SCHEMA = "diag.covariance/1"
# Tokens on which an import's samples of ordinary tokens are measured.
BACKGROUND_TOKENS = 50_000


@dataclass(frozen=True)
class MomentPlan:
    """What to estimate from what, and where to put it.

    The attributes are the arguments of :func:`diag.covariance.second_moments`.
    """

    text: Sequence[str] | None
    text_field: str | None
    max_tokens: int | None
    row_length: int | None
    seed: int
    ridge: str
    import_npz: str | None
    output: str | None
    checkpoint_every: float
    quiet: bool
    command_line: str | None

    def check(self) -> Sources:
        """Refuses mistakes and reads the sources, before a model is loaded.

        Returns:
            The text and the statistics.

        Raises:
            UserError: Naming the first mistake.
        """
        import torch

        from probes.second_moment import shrinkage
        from probes.second_moment.imported import read_npz
        from probes.text import corpus, documents
        from rome_diagnosis.errors import UserError

        if self.text is not None and not self.text:
            raise UserError("no text is given: name a source, or None for packaged text")
        for name in ("max_tokens", "row_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {value}")
        if not self.checkpoint_every >= 0:
            raise UserError(f"--checkpoint-every must be 0 or more, not {self.checkpoint_every}")
        if self.ridge not in ("auto", "none"):
            shrinkage.ridge(self.ridge, torch.eye(2), 1.0, 1)
        if self.output is not None:
            files.check_outputs([target_path(self.output, 0)])
        return Sources(
            corpus.packaged()
            if self.text is None
            else documents.read_documents(self.text, field=self.text_field),
            None if self.import_npz is None else read_npz(self.import_npz),
        )


@dataclass(frozen=True)
class Sources:
    """The text, and the published statistics that are imported."""

    text: Corpus
    published: Published | None


def measure_moments(
    plan: MomentPlan, sources: Sources, model: LoadedModel, layers: Sequence[int], group: Ranks
) -> SecondMoments:
    """Runs the text through the model and writes each layer's C.

    Args:
        plan: What is asked for.
        sources: What :meth:`Plan.check` read.
        model: The loaded model.
        layers: The blocks, in ascending order.
        group: The processes that share the text.

    Returns:
        The summary; only the first process's lists the layers.

    Raises:
        UserError: If a layer does not exist, or plan and model do not fit together.
    """
    from diag.covariance.result import SecondMoments
    from probes.second_moment import corpus_pass

    began = time.perf_counter()
    targets = _targets(plan, model, layers)
    with files.locked(*targets.values()):
        jobs = _jobs(plan, sources, model, targets, group)
        document: dict[str, Any] = {
            **envelope.head(SCHEMA, plan.command_line),
            "model": model.name,
            "fingerprint": model.fingerprint,
            "corpus": sources.text.name,
            "layers": [],
        }
        n_tokens = 0
        with _bar(jobs, quiet=plan.quiet or not group.is_first) as bar:
            for job in jobs:
                sums = corpus_pass.pass_over(job, group, progress=bar.advance)
                memory.give_back()
                n_tokens += next(iter(sums.values())).n_tokens
                if group.is_first:
                    document["layers"] += _save(plan, sources, job, sums, targets)
                del sums  # before the next ones take as much memory
        if not group.is_first:
            return SecondMoments(document)
        for job in jobs:
            corpus_pass.forget(job)
    document["run"] = {
        "processes": group.size,
        "seconds": time.perf_counter() - began,
        "n_tokens": n_tokens,
    }
    return SecondMoments(envelope.plain(document))


def _targets(plan: MomentPlan, model: LoadedModel, layers: Sequence[int]) -> dict[int, Path]:
    """The file of each layer, checked before any work is done."""
    from probes.second_moment import choose
    from rome_diagnosis.errors import UserError

    for layer in layers:
        model.check_layer(layer)
    if plan.output is None:
        folder = choose.cache()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from error
        targets = {layer: folder / choose.file_name(model, layer) for layer in layers}
    elif len(layers) > 1 and "{layer}" not in plan.output:
        raise UserError(f"several layers need {{layer}} in --output, which is {plan.output}")
    else:
        targets = {layer: Path(target_path(plan.output, layer)) for layer in layers}
    files.check_outputs(targets.values(), [*(plan.text or ()), plan.import_npz])
    return targets


def _jobs(
    plan: MomentPlan,
    sources: Sources,
    model: LoadedModel,
    targets: Mapping[int, Path],
    group: Ranks,
) -> list[Pass]:
    """The passes over the text, each of as many layers as fit into memory."""
    from probes.second_moment import corpus_pass
    from probes.second_moment.cost import groups
    from probes.text import corpus
    from rome_diagnosis.errors import UserError

    imports = sources.published is not None
    if imports and len(targets) > 1:
        raise UserError("--import-npz is of one layer: give one with --layers")
    d_mlp = int(model.config.d_mlp)
    length = plan.row_length or corpus.row_length(model)
    if length > model.n_ctx:
        raise UserError(f"--row-length {length} is more than the {model.n_ctx} {model.name} reads")
    return [
        corpus_pass.Pass(
            model,
            layers,
            sources.text,
            length,
            plan.max_tokens or (BACKGROUND_TOKENS if imports else None),
            plan.seed,
            checkpoint=None if imports else _checkpoint(targets[layers[0]]),
            every=plan.checkpoint_every,
            halves=not imports,
        )
        for layers in group.share(groups(list(targets), d_mlp, halves=not imports))
    ]


def _checkpoint(target: Path) -> Path:
    return target.with_name(target.name + ".checkpoint")


def _save(
    plan: MomentPlan,
    sources: Sources,
    job: Pass,
    sums: Mapping[int, Accumulator],
    targets: Mapping[int, Path],
) -> list[dict[str, Any]]:
    """Writes each layer's C.

    Returns:
        What the summary says of each.
    """
    from probes.second_moment import estimate, halves, plausible, shrinkage, stored
    from probes.second_moment.imported import adopt

    model, published = job.model, sources.published
    controls = {} if published else halves.keys(model, job.layers)
    rows: list[dict[str, Any]] = []
    for layer, own in sums.items():
        about: dict[str, Any]
        if published:
            name = Path(str(plan.import_npz)).name
            moment = adopt(published, model, layer, own.background(), name=name)
            about = {"fit": plausible.fit(moment)}
        else:
            moment = estimate.of_sums(own, model, layer, job.text, row_length=job.row_length)
            moment = shrinkage.ridged(moment, plan.ridge)
            control = controls.get(layer)
            moved = halves.measure_convergence(own, moment, *control) if control else None
            assert moment.moment is not None
            share = shrinkage.shrinkage(moment.moment, own.fourth, own.n_tokens)
            about = {"convergence": moved.describe() if moved else None, "shrinkage": share}
        stored.save(moment, targets[layer])
        rows.append(_layer(moment, layer, str(targets[layer])) | about)
    return rows


def merge_files(parts: Sequence[str], output: str, command_line: str) -> SecondMoments:
    """Adds up second moments of parts of a text.

    Args:
        parts: The files.
        output: The file to write; ``{layer}`` in it stands for the block.
        command_line: The command line that repeats the run.

    Returns:
        The summary.

    Raises:
        UserError: If a file cannot be read, or they are not of one model and layer.
    """
    from diag.covariance.result import SecondMoments
    from probes.second_moment.merged import merge
    from probes.second_moment.stored import load_moment, save

    moment = merge([load_moment(path) for path in parts])
    known = moment.provenance
    assert known is not None
    target = target_path(output, known.layer)
    files.check_outputs([target], parts)
    with files.locked(target):
        save(moment, target)
    return SecondMoments(
        envelope.plain(
            {
                **envelope.head(SCHEMA, command_line),
                "model": known.model,
                "fingerprint": known.fingerprint,
                "corpus": known.corpus,
                "layers": [_layer(moment, known.layer, target)],
            }
        )
    )


def _layer(moment: SecondMoment, layer: int, file: str) -> dict[str, Any]:
    """The part of a summary that every layer's C has."""
    known = moment.provenance
    n_tokens, keys_in = (known.n_tokens, known.dtype) if known else (0, "float32")
    return {
        "layer": layer, "file": file, **moment.describe(keys_in), "d_mlp": moment.d_mlp,
        "tokens_per_dimension": n_tokens / moment.d_mlp,
    }  # fmt: skip


def _bar(jobs: Sequence[Pass], *, quiet: bool) -> Progress:
    """A bar for the passes, after a line about what is to come."""
    if quiet:
        return Progress(quiet=True)
    from probes.second_moment.cost import cost_of

    coming = cost_of(jobs)
    note(coming.sentence())
    return Progress(coming.n_tokens, label="tokens")


def target_path(template: str, layer: int) -> str:
    """The file of one layer, ``{layer}`` in the template standing for the block."""
    return template.replace("{layer}", str(layer))
