"""Who else receives an edit: the share of the wanted change that reaches a key.

An update ΔW = u ⊗ (v* − v)/D moves the MLP's output for a key q by φ(q)·(v* − v), with
φ(q) = u·q / D. So one inner product, taken before anything is edited, says how much of the change
arrives at the bare prompt, after a prefix, at the first token of any other text and at its later
tokens. First-token keys are nearly one vector: what is written with one of them reaches them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diag.mathematics.update import Denominators
from probes.second_moment.moment import SecondMoment
from rome_diagnosis.editors import EDITORS

QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Response:
    """Shares of the wanted change, 1 for all of it; ``None`` where there is no key to ask.

    Attributes:
        bare: At the bare prompt, signed.
        prefixed: At prefixed prompts, signed, mean over contexts 1…n.
        other_first_tokens: At first tokens of ordinary text, root mean square over a sample.
        later_tokens: At later tokens of ordinary text, root mean square over a sample.
        first_token_quantiles: 5 %, 50 % and 95 % quantile at first tokens, signed.
    """

    bare: float
    prefixed: float | None
    other_first_tokens: float | None
    later_tokens: float | None
    first_token_quantiles: tuple[float, float, float] | None


def share(
    keys: Float[Tensor, "n d_mlp"], u: Float[Tensor, " d_mlp"], denominator: float
) -> Float[Tensor, " n"]:
    """φ of each key: the share of v* − v that its output receives.

    Args:
        keys: Keys q, float64.
        u: Direction of the update.
        denominator: D.

    Returns:
        u·q / D, signed; infinite or undefined for D = 0.
    """
    return keys @ u / denominator


def responses(
    keys: Float[Tensor, "n_ctx d_mlp"], denominators: Denominators, moment: SecondMoment
) -> Mapping[str, Response | None]:
    """The responses to one edit, for every editor.

    Args:
        keys: Keys under contexts 0…n, float64; row 0 is the bare prompt's.
        denominators: Their denominators.
        moment: The second moment C, with the sample of ordinary keys that lies beside it.

    Returns:
        By editor; ``None`` for one whose denominator is exactly zero.
    """
    background = moment.background
    first = _sample(background.first_keys if background else None)
    later = _sample(background.later_keys if background else None)
    result: dict[str, Response | None] = {}
    for name, editor in EDITORS.items():
        d = denominators.raw[name]
        if d == 0.0:
            result[name] = None
            continue
        u = denominators.direction(editor)
        own = share(keys, u, d)
        at_first = None if first is None else share(first, u, d)
        at_later = None if later is None else share(later, u, d)
        result[name] = Response(
            bare=float(own[0]),
            prefixed=float(own[1:].mean()) if len(own) > 1 else None,
            other_first_tokens=root_mean_square(at_first),
            later_tokens=root_mean_square(at_later),
            first_token_quantiles=_quantiles(at_first),
        )
    return result


def root_mean_square(values: Float[Tensor, " n"] | None) -> float | None:
    """Root mean square of some numbers; ``None`` without any."""
    return None if values is None else float(values.square().mean().sqrt())


def _quantiles(values: Tensor | None) -> tuple[float, float, float] | None:
    if values is None:
        return None
    low, middle, high = values.quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    return low, middle, high


def _sample(keys: Tensor | None) -> Tensor | None:
    return None if keys is None or not len(keys) else keys.to(torch.float64)
