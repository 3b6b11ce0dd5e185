"""Our keys and denominators beside the published implementation's, on one model, in one run.

    python -m benchmarks.published.denominators --rome CHECKOUT_OF_kmeng01/rome

Two comparisons for each request: the reference's algebra in float64 on the same keys, and the
reference end to end (its own subject finder, keys and float32 algebra) with the same contexts and
second moment. The bounds it is held to are those of the project: 1e-6 relative for the first,
1e-4 of the key's length for the second.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import random
import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.published.reference import Reference
from diag.mathematics import update
from probes import bundled
from probes.keys.one_edit import capture
from probes.model.load import load
from probes.request import prefixes as contexts
from probes.request.lookup import lookup
from probes.request.request import Request, request
from probes.second_moment.choose import for_model

SAME_KEYS, END_TO_END = 1e-6, 1e-4


class PublishedDenominator:
    """The reference's left vector and denominator, with contexts and second moment handed in."""

    def __init__(self, reference: Reference, checkout: Path, layer: int) -> None:
        with contextlib.chdir(checkout):  # the checkout reads its settings from where it is run
            self.compute_u = importlib.import_module("rome.compute_u")
        self.repr_tools = importlib.import_module("rome.repr_tools")
        self.compute_v = reference.compute_v
        self.reference, self.layer = reference, layer
        self.module = "transformer.h.{}.mlp.c_proj"

    def hand_in(self, inverse: torch.Tensor) -> None:
        """Puts C⁻¹ where the reference keeps the one it has loaded."""
        name = self.reference.model.config._name_or_path.replace("/", "_")
        self.compute_u.inv_mom2_cache[name, self.module.format(self.layer)] = inverse

    def __call__(
        self, edit: Request, templates: list[str], keys: torch.Tensor | None = None
    ) -> tuple[float, torch.Tensor]:
        """Its denominator and its unprefixed key.

        Args:
            edit: The request.
            templates: Contexts with ``{}`` for the prompt.
            keys: Keys to use instead of its own.
        """
        hparams = SimpleNamespace(
            fact_token="subject_last", rewrite_module_tmp=self.module, mom2_adjustment=True,
            mom2_dataset="", mom2_n_samples=0, mom2_dtype="float64",
        )  # fmt: skip
        asked = {"subject": edit.subject, "prompt": edit.prompt}
        original = self.repr_tools.get_reprs_at_word_tokens
        if keys is not None:
            self.repr_tools.get_reprs_at_word_tokens = lambda **_: keys
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                left = self.compute_u.compute_u(
                    self.reference.model, self.reference.tokenizer, asked, hparams, self.layer,
                    templates,
                )  # fmt: skip
                if keys is not None:
                    bare = keys[0]
                else:
                    bare, _ = self.compute_v.get_module_input_output_at_word(
                        self.reference.model, self.reference.tokenizer, self.layer, edit.prompt,
                        edit.subject, self.module, "subject_last",
                    )  # fmt: skip
        finally:
            self.repr_tools.get_reprs_at_word_tokens = original
        return float(torch.dot(bare, left)), bare


def draw(n: int, seed: int) -> list[tuple[str, Request]]:
    """Requests of three kinds: one-token subject first, subject later, several tokens first."""
    rng = random.Random(seed)
    facts = bundled.facts()
    rng.shuffle(facts)
    draws: list[tuple[str, Request]] = []
    for kind in ("first", "later", "several"):
        wanted = [f for f in facts if f["single_token"] != (kind == "several")]
        for fact in wanted[:n]:
            templates = [fact["prompt"], *fact["paraphrases"]]
            first = [t for t in templates if t.startswith("{}")]
            later = [t for t in templates if not t.startswith("{}")]
            draws.append((kind, request(fact["subject"], (later if kind == "later" else first)[0])))
    return draws


class Comparison:
    """Both ways on the bundled model, with the same contexts and C."""

    def __init__(self, checkout: Path, seed: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        path, self.layer = bundled.model_path(), bundled.edit_layer()
        self.model = load(path)
        plain = AutoModelForCausalLM.from_pretrained(path).eval()
        reference = Reference(checkout, plain, AutoTokenizer.from_pretrained(path))
        self.published = PublishedDenominator(reference, checkout, self.layer)
        self.moment = for_model(self.model, self.layer)
        assert self.moment.moment is not None
        self._inverse = torch.inverse(self.moment.moment)
        prefixes = contexts.sample(self.model, seed=seed)
        # The reference puts its templates through str.format twice.
        self._templates = [
            "{}", *(p.replace("{", "(").replace("}", ")") + "{}" for p in prefixes)
        ]  # fmt: skip
        self.seconds = {"ours": 0.0, "published": 0.0}

    def row(self, kind: str, edit: Request) -> dict[str, Any]:
        """One request: how far the two are apart."""
        began = time.perf_counter()
        lookups = [lookup(self.model, edit, template[:-2]) for template in self._templates]
        keys = capture(self.model, lookups, self.layer).keys
        ours = update.denominators(keys, self.moment)
        normalised = ours.normalised["rome"]
        self.seconds["ours"] += time.perf_counter() - began
        self.published.hand_in(self._inverse)
        same, _ = self.published(edit, self._templates, keys)
        self.published.hand_in(self._inverse.float())
        began = time.perf_counter()
        denominator, bare = self.published(edit, self._templates)
        self.seconds["published"] += time.perf_counter() - began
        return {
            "kind": kind,
            "same": abs(same - normalised) / abs(normalised),
            "whole": abs(denominator - normalised) / float(keys[0].norm()),
            "relative": abs(denominator - normalised) / abs(normalised),
            "key": float((bare.double() - keys[0]).norm() / keys[0].norm()),
            "ratio": abs(ours.split.ratio),
        }


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the worst of each kind of request."""
    print(f"{'requests':>20} {'n':>3} {'same keys, relative':>20} {'end to end / |k_u|':>19} "
          f"{'end to end, relative':>21} {'key, relative':>14} {'median |rho|':>13}")  # fmt: skip
    for kind in ("first", "later", "several"):
        of_kind = [row for row in rows if row["kind"] == kind]
        worst = {k: max(r[k] for r in of_kind) for k in ("same", "whole", "relative", "key")}
        median = statistics.median(row["ratio"] for row in of_kind)
        print(f"{kind:>20} {len(of_kind):>3} {worst['same']:>20.2e} {worst['whole']:>19.2e} "
              f"{worst['relative']:>21.2e} {worst['key']:>14.2e} {median:>13.3g}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Denominators beside the published ones.")
    parser.add_argument("--rome", type=Path, required=True, help="a checkout of kmeng01/rome")
    parser.add_argument("--each", type=int, default=10, help="requests of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    both = Comparison(options.rome.resolve(), options.seed)
    rows = [both.row(kind, edit) for kind, edit in draw(options.each, options.seed)]
    moment, seconds = both.moment, both.seconds
    print(f"layer {both.layer}, cond(C) = {moment.condition_number:.3g}, ridge {moment.ridge:g}")
    show(rows)
    print(f"seconds: ours {seconds['ours']:.2f}, published {seconds['published']:.2f} "
          f"(× {seconds['published'] / seconds['ours']:.1f})")  # fmt: skip
    held = all(r["same"] <= SAME_KEYS and r["whole"] <= END_TO_END for r in rows)
    print(f"bounds {SAME_KEYS:g} and {END_TO_END:g}: {'held' if held else 'MISSED'}")
    sys.exit(not held)


if __name__ == "__main__":
    main()
