"""Runs MEMIT, ROME and C-ROME of WanliYoung/Collapse-in-Model-Editing, unmodified, beside ours.

The experiments of *The Fall of ROME* ran this copy of EasyEdit, whose ``if_c_rome`` is C-ROME.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from unittest import mock

import torch

from benchmarks.published.reference_batches import MemitReference, Published, layer_of
from benchmarks.sides import timed
from probes.request.request import Request


class EasyEditMemit(MemitReference):
    """Its MEMIT."""

    source = "WanliYoung/Collapse-in-Model-Editing"
    home, outer = "easyeditor.models.", "easyeditor."

    def __init__(self, *arguments: Any) -> None:
        """Loads the checkout's modules; see the base."""
        super().__init__(*arguments)
        self.hparams.device = 0

    def _record(self, request: Request) -> dict[str, Any]:
        return {**super()._record(request), "target_new": str(request.target_new).strip()}


class EasyEditRome(EasyEditMemit):
    """Its ROME, one edit at a time."""

    package, optimiser = "rome", "compute_v"
    is_consistent: ClassVar[bool] = False

    def __init__(self, *arguments: Any) -> None:
        """Loads the checkout's modules; see the base."""
        super().__init__(*arguments)
        self.hparams.if_c_rome, self.hparams.save_keys = self.is_consistent, False
        self.hparams.mom2_adjustment, self.hparams.context_template_length_params = True, []

    def _hand_in(self, moment: Callable[[str], torch.Tensor]) -> None:
        compute_u: Any = sys.modules[f"{self.home}rome.compute_u"]
        compute_u.get_inv_cov = lambda model, tok, name, *_, **__: torch.cholesky_inverse(
            torch.linalg.cholesky(moment(name))
        )

    def batch(self, requests: Sequence[Request], prefixes: Sequence[str]) -> Published:
        """See the base.

        Args:
            requests: One edit.
            prefixes: Contexts 1…n, each ending in white space.

        Returns:
            What it made; the target is v*.
        """
        (request,) = requests
        self.main.CONTEXT_TEMPLATES_CACHE = ["{}", *(f"{prefix}{{}}" for prefix in prefixes)]
        tools: Any = sys.modules[f"{self.home}rome.repr_tools"]
        measured: list[Any] = []
        read = tools.get_reprs_at_word_tokens

        def kept(**asked: Any) -> Any:
            measured.append(read(**asked))
            return measured[-1]

        with (
            mock.patch.object(tools, "get_reprs_at_word_tokens", kept),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            deltas, wall, processor = timed(
                lambda: self.main.execute_rome(
                    self.model, self.tokenizer, self._record(request), self.hparams
                )
            )
        ((name, (left, right)),) = deltas.items()
        keys, (below, subtracted) = measured
        # The right vector is what v* lacks, over the denominator.
        value = right * (below.mean(0) @ left) + subtracted.mean(0)
        layer = layer_of(name)
        return Published(
            value.detach()[None],
            {layer: keys.mean(0)[None]},
            {layer: torch.outer(left, right).detach()},
            wall,
            processor,
        )


class EasyEditCRome(EasyEditRome):
    """Its C-ROME."""

    is_consistent = True
