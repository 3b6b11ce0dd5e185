"""The study's numbers by another way: plain Hugging Face hooks and numpy, nothing of ours.

    python -m benchmarks.pretrained.recompute docs/evidence/pretrained.json.gz FOLDER \
        --corpus ME-PPL.json --texts ME-PPL_1k.json --edits 6

Keys and denominators from ``transformers`` and a linear solve; ‖δ‖ from an optimisation of complete
passes; and the root mean square change of the MLP's output over every token that C rests on, beside
the closed form. FOLDER is that of :mod:`benchmarks.pretrained.perform`, for C.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.pretrained.perform import EVERY, ROW_LENGTH
from benchmarks.pretrained.tables import read

Array = np.ndarray
Edit = Mapping[str, Any]


class Plain:
    """A Hugging Face model with a hook on one block's output projection."""

    def __init__(self, directory: str, layer: int) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(directory)
        self.projection = self.model.eval().model.layers[layer].mlp.down_proj

    def tokens(self, prefix: str, edit: Edit) -> tuple[list[int], int]:
        """The prompt's tokens, and the index of the subject's last."""
        asked = edit["request"]
        before, _, _ = asked["prompt"].partition("{}")
        text = prefix + asked["prompt"].replace("{}", asked["subject"])
        end = len(prefix) + len(before) + len(asked["subject"])
        read = self.tokenizer(text, return_offsets_mapping=True)
        at = max(i for i, (start, _) in enumerate(read["offset_mapping"]) if start < end)
        return read["input_ids"], at

    @torch.no_grad()
    def keys(self, ids: Sequence[int]) -> Array:
        """What enters the projection at every token, float64."""
        seen: list[torch.Tensor] = []
        handle = self.projection.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        self.model.model(torch.tensor([ids]))
        handle.remove()
        return seen[0][0].double().numpy()

    def delta_norm(
        self, edit: Edit, prefixes: Sequence[str], chosen: Mapping[str, Any]
    ) -> tuple[float, float]:
        """‖δ‖ and the last loss, each context in a complete pass of its own."""
        new = self.tokenizer(" " + edit["request"]["target_new"])["input_ids"]
        rows = []
        for prefix in ("", *prefixes):
            ids, at = self.tokens(prefix, edit)
            rows.append((ids + new[:-1], at, len(ids) - 1))
        held = self.tokenizer(f"{edit['request']['subject']} is a", return_offsets_mapping=True)
        end = len(edit["request"]["subject"])
        last = max(i for i, (start, _) in enumerate(held["offset_mapping"]) if start < end)
        delta = torch.zeros(self.model.config.hidden_size, requires_grad=True)
        seen: list[torch.Tensor] = []

        def said(ids: Sequence[int], at: int) -> torch.Tensor:
            def add(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
                seen.append(output[0, at].detach())
                return torch.cat(
                    [output[:, :at], output[:, at : at + 1] + delta, output[:, at + 1 :]], dim=1
                )

            handle = self.projection.register_forward_hook(add)
            logits = self.model(torch.tensor([ids])).logits[0].log_softmax(-1)
            handle.remove()
            return logits

        adam = torch.optim.Adam([delta], lr=chosen["learning_rate"])
        with torch.no_grad():
            before = said(held["input_ids"], last)[last]
            said(*rows[0][:2])
        size = float(seen[-1].norm())
        loss = torch.tensor(float("nan"))
        for evaluation in range(chosen["evaluations"]):
            nll = torch.stack(
                [-said(ids, at)[range(start, start + len(new)), new].mean()
                 for ids, at, start in rows]
            ).mean()  # fmt: skip
            now = said(held["input_ids"], last)[last]
            moved = (now.exp() * (now - before)).sum()
            decay = chosen["weight_decay"] * delta.norm() / size**2
            loss = nll + chosen["kl_factor"] * moved + decay
            if (
                float(loss.detach()) < chosen["stop_below"]
                or evaluation == chosen["evaluations"] - 1
            ):
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                longest = chosen["clamp_norm_factor"] * size
                delta.mul_(min(1.0, longest / float(delta.detach().norm())))
        return float(delta.detach().norm()), float(loss.detach())


def corpus_rows(plain: Plain, corpus: str, texts: str, n_tokens: int) -> Iterator[list[int]]:
    """The rows of tokens that C was summed over, packed again."""
    measured = {entry["Text"] for entry in json.loads(Path(texts).read_text(encoding="utf-8"))}
    row: list[int] = []
    for entry in json.loads(Path(corpus).read_text(encoding="utf-8")):
        text = entry["Text"]
        if text in measured or not text.strip():
            continue
        row += plain.tokenizer(text if not row else "\n" + text)["input_ids"]
        if len(row) >= ROW_LENGTH:
            yield row[:ROW_LENGTH]
            row, n_tokens = [], n_tokens - ROW_LENGTH
            if n_tokens <= 0:
                return


def apart(ours: float, theirs: float) -> float:
    """Relative difference."""
    return abs(ours / theirs - 1)


def main() -> None:
    """Recomputes some edits and prints the largest relative differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evidence")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True, help="the directory of the dequantised model")
    parser.add_argument("--layer", type=int, default=8)
    parser.add_argument("--edits", type=int, default=6)
    parser.add_argument("--targets", type=int, default=1, help="edits whose v* is optimised again")
    parser.add_argument("--corpus", help="pass over C's own corpus")
    parser.add_argument("--texts", help="what perplexity was measured on")
    options = parser.parse_args()
    document = read(options.evidence)
    own = [edit for edit in document["edits"] if edit["site"]["layer"] == options.layer]
    chosen = own[:: max(1, len(own) // options.edits)][: options.edits]
    plain = Plain(options.model, options.layer)
    stored = load_file(options.folder / f"c-{options.layer}.safetensors")
    c = next(value for value in stored.values() if value.ndim == 2 and value.shape[0] ==
             value.shape[1]).astype(np.float64)  # fmt: skip
    settings, worst, directions = document["settings"], 0.0, []
    for edit in chosen:
        tokens = [plain.tokens(prefix, edit) for prefix in ("", *settings["prefixes"])]
        keys = np.stack([plain.keys(ids)[at] for ids, at in tokens])
        bare, mean = keys[0], keys.mean(0)
        along = np.linalg.solve(c, np.stack([mean, bare], axis=1))
        denominators = {"rome": along[:, 0] @ bare, "c_rome": along[:, 0] @ mean,
                        "p_rome": along[:, 1] @ bare}  # fmt: skip
        for arm, denominator in denominators.items():
            worst = max(worst, apart(denominator, edit["arms"][arm]["denominator"]))
        rome = edit["arms"]["rome"]
        directions.append(along[:, 0] * rome["numerator_norm"] / abs(rome["denominator"]))
    print(f"denominators of {len(chosen)} edits: at most {worst:.1e} apart")
    for edit in chosen[: options.targets]:
        size, loss = plain.delta_norm(
            edit, settings["prefixes"][::EVERY], settings["hyperparameters"]
        )
        recorded = edit["optimisation"]
        print(
            f"v* of {edit['request']['subject']}: "
            f"‖δ‖ {apart(size, recorded['delta_norm']):.1e} apart, "
            f"loss {apart(loss, recorded['loss']):.1e} apart"
        )
    if options.corpus:
        n_tokens = document["second_moments"][str(options.layer)]["n_tokens"]
        total, n = np.zeros(len(chosen)), 0
        for row in corpus_rows(plain, options.corpus, options.texts, n_tokens):
            keys = plain.keys(row)
            total += np.square(keys @ np.stack(directions, axis=1)).sum(0)
            n += len(keys)
        assert n == n_tokens, (n, n_tokens)
        changes = [edit["arms"]["rome"]["damage"]["predicted"] for edit in chosen]
        worst = max(map(apart, np.sqrt(total / n), changes))
        print(f"closed form over {n} tokens of C's corpus: at most {worst:.1e} apart")


if __name__ == "__main__":
    main()
