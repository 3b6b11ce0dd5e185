"""Second moments that were measured elsewhere: parts of a corpus, and other people's statistics."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from probes.model.loaded import LoadedModel
from probes.second_moment.moment import Background, Provenance, SecondMoment, of_moment
from rome_diagnosis.errors import UserError

# ROME's and EasyEdit's names, e.g. transformer.h.17.mlp.c_proj_float32_mom2_100000.npz
LAYER = re.compile(r"(?:^|\.)(?:h|layers|blocks)\.(\d+)\.")
# Keys of a model's own have whitened square length d_mlp on average; so far off, another's.
FITTING = 5.0


@dataclass(frozen=True)
class Published:
    """Statistics as ``rome.layer_stats`` keeps them.

    Attributes:
        moment: E[k kᵀ], float64, ``[d_mlp, d_mlp]``.
        n_tokens: Keys it was averaged over.
        layer: The block its file's name says, or ``None``.
    """

    moment: Tensor
    n_tokens: int
    layer: int | None


def read_npz(path: str | os.PathLike[str]) -> Published:
    """Reads a statistics file of ROME or EasyEdit, without unpickling anything.

    Args:
        path: The ``.npz`` file.

    Returns:
        What it holds.

    Raises:
        UserError: If it cannot be read, holds no second moment, or one that cannot be.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            known = {"mom2.mom2", "mom2.count"} <= names
            if known:
                total = torch.from_numpy(np.asarray(file["mom2.mom2"], dtype=np.float64))
                count = int(file["mom2.count"])
    except FileNotFoundError as error:
        raise UserError(f"there is no statistics file {path}") from error
    except OSError as error:
        raise UserError(f"cannot read the statistics file {path}: {error}") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        # What numpy says of such a file advises to unpickle it.
        raise UserError(f"{path} is no .npz file of statistics, or it is damaged") from error
    if not known:
        raise UserError(
            f"{path} holds no second moment: expected mom2.mom2 and mom2.count, found "
            f"{', '.join(sorted(names)) or 'nothing'}"
        )
    if total.dim() != 2 or total.shape[0] != total.shape[1] or count <= 0:
        raise UserError(f"{path}: a second moment of shape {tuple(total.shape)} over {count} keys")
    if not torch.isfinite(total).all() or bool((total.diagonal() < 0).any()):
        raise UserError(f"{path} holds values that no sum of squares has")
    apart = float((total - total.T).abs().max())
    if apart > 1e-3 * float(total.abs().max()):
        raise UserError(f"{path} holds a matrix that is not symmetric")
    found = LAYER.search(path.name)
    return Published(total / count, count, int(found.group(1)) if found else None)


def adopt(
    found: Published, model: LoadedModel, layer: int, background: Background, *, name: str
) -> SecondMoment:
    """Makes imported statistics a second moment of this model.

    Args:
        found: The statistics.
        model: The model they are said to be of.
        layer: The block.
        background: Ordinary tokens, measured on the model itself: the statistics bring none.
        name: What to call their corpus.

    Returns:
        The second moment; how long its rows were is not known.

    Raises:
        UserError: If they are of another layer, size, or evidently of other weights.
    """
    if found.layer is not None and found.layer != layer:
        raise UserError(f"{name} is of layer {found.layer} by its name, not {layer}")
    d_mlp = int(model.config.d_mlp)
    if len(found.moment) != d_mlp:
        raise UserError(f"{name} has size {len(found.moment)}; {model.name} has keys of {d_mlp}")
    moment = of_moment(
        found.moment,
        source="imported",
        provenance=Provenance(
            model=model.name,
            fingerprint=model.fingerprint,
            layer=layer,
            bos=model.bos,
            corpus=name,
            corpus_digest=hashlib.sha256(found.moment.numpy().tobytes()).hexdigest(),
            n_tokens=found.n_tokens,
            row_length=None,
            position0_share=None,
            dtype=model.dtype,
        ),
        background=background,
    )
    fit = fitting(moment)
    if not 1 / FITTING <= fit <= FITTING:
        raise UserError(
            f"{name} is not of layer {layer} of {model.name}: ordinary keys have {fit:.3g} times "
            "the square length in its metric that they would have in their own"
        )
    return moment


def fitting(moment: SecondMoment) -> float:
    """Median whitened square length of ordinary keys over d_mlp: about 1 where C is theirs."""
    assert moment.background is not None
    white = moment.whiten(moment.background.later_keys.to(torch.float64))
    return float(white.square().sum(1).median()) / moment.d_mlp


def merge(parts: Sequence[SecondMoment]) -> SecondMoment:
    """Adds second moments of parts of a corpus up, each weighted by its tokens.

    Args:
        parts: Of one model, layer and convention.

    Returns:
        The whole. Its samples are drawn from the parts in proportion; its typical residual norms
        are the weighted means of theirs.

    Raises:
        UserError: If the parts do not belong together, or one is given twice.
    """
    if len(parts) < 2:
        raise UserError("merging takes two second moments or more")
    first = parts[0].provenance
    assert first is not None
    seen: dict[str, str] = {}
    for part in parts:
        made = part.provenance
        if made is None or part.moment is None or part.background is None:
            raise UserError("the identity cannot be merged with anything")
        for what in ("fingerprint", "layer", "bos", "dtype"):
            if getattr(made, what) != getattr(first, what):
                raise UserError(
                    f"{part.source} was measured for another {what} than {parts[0].source}: "
                    f"{getattr(made, what)}, not {getattr(first, what)}"
                )
        if made.corpus_digest in seen:
            raise UserError(f"{part.source} and {seen[made.corpus_digest]} are of the same text")
        seen[made.corpus_digest] = part.source
    counts = [part.provenance.n_tokens for part in parts if part.provenance]
    n_tokens = sum(counts)
    shares = [count / n_tokens for count in counts]
    total = torch.zeros(parts[0].d_mlp, parts[0].d_mlp, dtype=torch.float64)
    for part, count in zip(parts, counts, strict=True):
        assert part.moment is not None
        total += part.moment * count
    made_of = [part.provenance for part in parts if part.provenance]
    row_lengths = {made.row_length for made in made_of}
    firsts = [made.position0_share for made in made_of]
    digest = hashlib.sha256("".join(made.corpus_digest for made in made_of).encode()).hexdigest()
    return of_moment(
        total / n_tokens,
        source="merged",
        provenance=replace(
            first,
            corpus=" + ".join(made.corpus for made in made_of),
            corpus_digest=digest,
            n_tokens=n_tokens,
            row_length=row_lengths.pop() if len(row_lengths) == 1 else None,
            position0_share=_mean(firsts, shares),
        ),
        background=_pool([part.background for part in parts if part.background], shares),
    )


def _mean(values: Sequence[float | None], shares: Sequence[float]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return sum(value * share for value, share in zip(known, shares, strict=True))


def _pool(parts: Sequence[Background], shares: Sequence[float]) -> Background:
    def rows(name: str) -> Tensor:
        samples: list[Tensor] = [getattr(part, name) for part in parts]
        # The part that is scarcest in proportion says how many the others may give.
        size = min(
            [len(s) / share for s, share in zip(samples, shares, strict=True)]
            + [max(len(s) for s in samples)]
        )
        taken = []
        for sample, share in zip(samples, shares, strict=True):
            n = min(len(sample), max(1, round(size * share)))
            # Evenly over the sample, whichever order it is in.
            taken.append(sample[torch.linspace(0, len(sample) - 1, n).round().long()])
        return torch.cat(taken)

    def streams(name: str) -> Tensor | None:
        # As many as keys, and chosen alike: each stays beside its key.
        return rows(name) if all(getattr(part, name) is not None for part in parts) else None

    def norm(name: str) -> float:
        found = _mean([getattr(part, name) for part in parts], shares)
        assert found is not None
        return found

    return Background(
        first_keys=rows("first_keys"),
        later_keys=rows("later_keys"),
        residual_norm=norm("residual_norm"),
        residual_norm_before=norm("residual_norm_before"),
        first_streams=streams("first_streams"),
        later_streams=streams("later_streams"),
    )
