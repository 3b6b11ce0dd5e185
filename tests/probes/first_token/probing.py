"""Measured subjects of tiny models, for the tests of the first-token probes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from probes.first_token import subjects as subject_set
from probes.model.loaded import LoadedModel
from probes.request.request import request
from probes.second_moment.moment import SecondMoment, of_moment
from tests import oracle

PREFIXES = ("The weather was fine. ", "I think you should read this. ", "Paris. ")
NAMES = ("Apple", "Paris", "The", "fine", "Apple Paris", "Danielle Darrieux")
CASES = [
    subject_set.SubjectCase(
        request(name, "{} was founded by"), request(name, "They read that {} is")
    )
    for name in NAMES
]


def moment(d_mlp: int) -> SecondMoment:
    """A second moment that belongs to no model and is not the identity."""
    random = torch.Generator().manual_seed(3)
    keys = torch.randn(4 * d_mlp, d_mlp, dtype=torch.float64, generator=random)
    return of_moment(keys.T @ keys / len(keys), source="test")


def measured(model: LoadedModel, layer: int) -> list[subject_set.Subject]:
    """The subjects, of one token or several."""
    metric = moment(int(model.config.d_mlp))
    subjects, _ = subject_set.measure_subjects(
        model, CASES, layer, PREFIXES, metric, pairs=2, first_only=False
    )
    return subjects


class Plain:
    """Keys of the plain Hugging Face model at given positions, without any mask."""

    def __init__(self, directory: Path, layer: int) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(directory).eval()
        self.projection = oracle.output_projection(self.model, layer)

    @torch.no_grad()
    def key(self, ids: list[int], positions: list[int]) -> torch.Tensor:
        """The key at the last token."""
        seen: list[torch.Tensor] = []
        handle = self.projection.register_forward_pre_hook(
            lambda module, inputs: seen.append(inputs[0][0, -1])
        )
        self.model(torch.tensor([ids]), position_ids=torch.tensor([positions]))
        handle.remove()
        return seen[0].double()
