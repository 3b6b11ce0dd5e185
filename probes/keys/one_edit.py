"""Keys: the input of the edited MLP's output projection at the subject's last token.

Only what the answer needs is computed: blocks up to the edited one, tokens up to the subject's
last, and texts that several contexts share once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from probes.forward.batches import Batch, batches, run_to, to_float64
from probes.model.loaded import LoadedModel
from probes.request.lookup import Lookup


@dataclass(frozen=True)
class Keys:
    """Keys and values of one subject in several contexts, or of many lookups.

    Attributes:
        keys: Input of the output projection, ``[n, d_mlp]``, float64 on the CPU.
        values: Output of the MLP at the same token, ``[n, d_model]``, float64 on the CPU.
    """

    keys: Float[Tensor, "n d_mlp"]
    values: Float[Tensor, "n d_model"]


def capture(model: LoadedModel, lookups: Sequence[Lookup], layer: int) -> Keys:
    """Captures the key and the MLP's output at every lookup token.

    Args:
        model: The model.
        lookups: Where to look; equal token sequences are run once.
        layer: The edited block.

    Returns:
        One row for each lookup, in the order given.

    Raises:
        UserError: If the model has no such layer.
    """
    texts = [tuple(lookup.ids) for lookup in lookups]
    distinct = list(dict.fromkeys(texts))
    found: dict[str, dict[int, Tensor]] = {"key": {}, "value": {}}
    for batch in batches(distinct, model.device):

        def keep(site: str, batch: Batch = batch) -> Callable[[Tensor, Any], None]:
            def hook(activation: Tensor, hook: Any) -> None:
                at_subject = activation[torch.arange(len(batch.rows)), batch.last]
                found[site].update(zip(batch.rows, to_float64(at_subject), strict=True))

            return hook

        run_to(
            model,
            batch,
            layer,
            [(model.hook(layer, "key"), keep("key")), (model.hook(layer, "value"), keep("value"))],
        )
    order = {text: i for i, text in enumerate(distinct)}
    return Keys(
        keys=torch.stack([found["key"][order[text]] for text in texts]),
        values=torch.stack([found["value"][order[text]] for text in texts]),
    )
