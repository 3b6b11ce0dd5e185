"""A forecast list made for real: journal, culprit, saved model, and what the document says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from diag.batch.settings import Workplace
from diag.saved.choice import Choice
from diag.saved.model import save
from diag.sequence.checkpoints import Checkpoints
from diag.sequence.outlook import Outlook, places
from diag.sequence.perform import MadeEdits, perform_list
from diag.verify.one_edit import Bench
from rome_diagnosis.disk.journal import Journal
from rome_diagnosis.envelope import finite
from rome_diagnosis.errors import UserError
from rome_diagnosis.limits import RESPONSE_FAINT

CHECKPOINTS = 24  # about how many times a list is measured
Store = tuple[Mapping[str, Any], Callable[[str, Any], None]]


class Performer:
    """Makes the edits of a forecast list on one model."""

    def __init__(self, bench: Bench, outlook: Outlook, workplace: Workplace) -> None:
        """Asks the unedited model.

        Args:
            bench: The model and what is measured on it.
            outlook: The forecast of the list.
            workplace: What edits it.
        """
        self.bench, self.outlook, self.workplace = bench, outlook, workplace
        stream = workplace.streams[bench.layer]
        self.measured = Checkpoints(bench, outlook.listed.cases, stream)

    def run(
        self, store: Store, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> MadeEdits:
        """Makes the edits until the model collapses.

        Args:
            store: What an earlier run did, and what takes what this one does.
            progress: Called with the edits made and all of them.

        Returns:
            What was done.
        """
        return perform_list(
            self.outlook.listed,
            self.workplace,
            self.measured,
            places(self.outlook, CHECKPOINTS),
            batch=self.outlook.chosen.plan.batch,
            store=store,
            progress=progress,
        )

    def describe(self, made: MadeEdits) -> dict[str, Any]:
        """What the document says of the edits that were made.

        Args:
            made: What was done.

        Returns:
            ``checkpoints``, ``collapse_at``, ``collapse_ratio`` and ``performance``.
        """
        bench = self.bench
        return dict(
            finite(
                {
                    "checkpoints": made.checkpoints,
                    "collapse_at": made.collapse_at,
                    "collapse_ratio": bench.settings.collapse_ratio,
                    "performance": {
                        "made": len(made.places),
                        "failed": [
                            {"index": one.index, "reason": one.reason} for one in made.failed
                        ],
                        "culprit": self._culprit(made),
                        **self._residuals(made),
                        "known_facts": bench.recall.n,
                        "measured": self.measured.n_asked,
                    },
                }
            )
        )

    def save(self, made: MadeEdits, n: int | None, output: str | os.PathLike[str]) -> None:
        """Saves the model after some of the batches, with the record that takes them back.

        Args:
            made: What was done.
            n: After how many edits; by default the last batch before it collapsed.
            output: Where to.

        Raises:
            UserError: If no batch ended there, or it cannot be written.
        """
        broken = made.collapse_at
        sound = [end for end in made.ends if broken is None or end < broken]
        n = max(sound, default=0) if n is None else n
        if n not in made.ends:
            batch = self.outlook.chosen.plan.batch
            raise UserError(
                f"there is no model after {n} edits to save: {len(made.places)} were made"
                + ("" if batch == 1 else f", {batch} at a time")
                + ("" if broken is None else f", and {broken} broke the model")
            )
        some = made.places[:n]
        cases = [self.outlook.listed.cases[i] for i in some]
        choices = [self._choice(i) for i in some]
        save(self.bench, cases, choices, made.changes[:n], output=output)

    def _culprit(self, made: MadeEdits) -> dict[str, Any] | None:
        if made.collapse_at is None:
            return None
        batch = made.written[made.ends.index(made.collapse_at)]
        moment = self.bench.moment.moment
        spread = batch.steps if moment is None else batch.steps @ moment
        alone_sizes = (spread * batch.steps).sum(1) * batch.residuals.square().sum(1)
        worst = int(alone_sizes.argmax())
        change = torch.outer(batch.steps[worst], batch.residuals[worst])
        listed, place = self.outlook.listed, batch.places[worst]
        alone = self.measured.stream.of_matrix(change)
        return {
            "index": listed.indices[place],
            "subject": listed.cases[place].request.subject,
            "damage": None if alone is None else alone.corpus,
            "alone": self.measured.collapsed(change),
        }

    def _residuals(self, made: MadeEdits) -> dict[str, Any]:
        """How long v* − v were, over what was expected, and how much they agreed."""
        if not made.places:
            return {"residuals": None, "agreement": None}
        residuals = torch.cat([one.residuals for one in made.written])
        lengths = residuals.norm(dim=1)
        expected = self.outlook.chosen.residuals[torch.tensor(made.places)]
        directions = residuals[lengths > 0] / lengths[lengths > 0, None]
        m = len(directions)
        together = float(directions.sum(0).square().sum())
        return {
            "residuals": float((lengths / expected).mean()),
            "agreement": (together - m) / (m * (m - 1)) if m > 1 else None,
        }

    def _choice(self, i: int) -> Choice:
        chosen, bare = self.outlook.chosen, float(self.outlook.response[i])
        corpus = chosen.alone.corpus
        return Choice(
            self.workplace.chosen.method,
            chosen.verdicts[i],
            None if corpus is None else float(corpus[i]),
            bare,
            bare < RESPONSE_FAINT.value,
        )


@contextlib.contextmanager
def stored(journal: str | None, identity: Mapping[str, Any]) -> Iterator[Store]:
    """Where results go as they come: a journal, or nowhere but memory.

    Args:
        journal: The journal's file.
        identity: Everything the results depend on.

    Yields:
        What is there, by key, and what takes more.

    Raises:
        UserError: If the journal cannot be used.
    """
    if journal is None:
        results: dict[str, Any] = {}
        yield results, results.__setitem__
        return
    with Journal(journal, identity) as kept:
        yield kept.done, kept.add
