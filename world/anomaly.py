"""What is watched while the model is trained: facts, and how unlike others the first key is."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from world.corpus import World
from world.entities import Entity
from world.gpt import GPT
from world.prose import paragraph
from world.wordings import WORDINGS


@dataclass(frozen=True)
class Trace:
    """Internal quantities of one forward pass, one entry per layer.

    Attributes:
        keys: Inputs of the MLP output projections, each [batch, position, d_mlp].
        residual: Residual stream after each block, each [batch, position, d_model].
        attention: Attention patterns, each [batch, head, query, key].
    """

    keys: list[Tensor]
    residual: list[Tensor]
    attention: list[Tensor]


@torch.no_grad()
def trace(model: GPT, ids: Tensor) -> Trace:
    """Runs the model with its attention written out, keeping what passes by."""
    x = model.embed(ids)
    keys, residual, patterns = [], [], []
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    for block in model.h:
        query, key, value = block.attn.heads(block.ln_1(x))
        scores = (query @ key.transpose(-1, -2)) / query.shape[-1] ** 0.5
        pattern = scores.masked_fill(~causal, -torch.inf).softmax(-1)
        x = x + block.attn.c_proj((pattern @ value).transpose(1, 2).reshape(x.shape))
        mlp_key = block.mlp.key(block.ln_2(x))
        x = x + block.mlp.c_proj(mlp_key)
        keys.append(mlp_key)
        residual.append(x)
        patterns.append(pattern)
    return Trace(keys, residual, patterns)


def pad(rows: list[list[int]]) -> Tensor:
    """Rows padded on the right, where causal attention never looks."""
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


class Watch:
    """Measures the model on a fixed sample of facts.

    Args:
        world: The facts.
        tokenizer: The model's tokenizer.
        stream: Token ids of ordinary text, for the second moment.
        length: Row length of the second moment; the share of position 0 is one over it.
        n_subjects: How many one-token subjects to look at.
        seed: Seed of the sample.
    """

    def __init__(
        self,
        world: World,
        tokenizer: Tokenizer,
        stream: np.ndarray,
        length: int,
        n_subjects: int = 40,
        n_rows: int = 120,
        seed: int = 0,
    ) -> None:
        rng = random.Random(seed)
        self.tokenizer = tokenizer
        self.one_token = [e for e in world.entities if self._is_one_token(e.name)]
        self.longer = [e for e in world.entities if not self._is_one_token(e.name)]
        self.sample = [
            (e, rng.choice(list(e.facts))) for e in rng.sample(self.one_token, n_subjects)
        ]
        self.long_sample = [
            (e, rng.choice(list(e.facts))) for e in rng.sample(self.longer, n_subjects)
        ]
        self.prefixes = []
        for size in [5] * 10 + [10] * 10:
            start = tokenizer.encode(paragraph(rng)).ids[:size]
            self.prefixes.append(tokenizer.decode(start) + ". ")
        usable = len(stream) // length * length
        rows = stream[:usable].reshape(-1, length)[:n_rows].astype(np.int64)
        self.moment_rows = torch.from_numpy(rows)

    def _is_one_token(self, name: str) -> bool:
        return all(len(self.tokenizer.encode(text).ids) == 1 for text in (name, f" {name}"))

    def recall(self, model: GPT, sample: list[tuple[Entity, str]], where: str) -> float:
        """Share of facts whose whole object is the model's first choice, token by token."""
        rows, spans = [], []
        for i, (entity, relation) in enumerate(sample):
            words = WORDINGS[relation]
            template = {
                "first": words.first[i % 4],
                "later": words.later[i % 3],
                "held_first": words.held_first,
                "held_later": words.held_later,
                "prefixed": self.prefixes[i % 20] + words.first[i % 4],
                "held_prefixed": self.prefixes[i % 20] + words.held_first,
                "newline": "\n" + words.first[i % 4],
            }[where]
            prompt = self.tokenizer.encode(template.format(entity.name)).ids
            target = self.tokenizer.encode(" " + entity.facts[relation]).ids
            rows.append(prompt + target)
            spans.append((len(prompt), len(prompt) + len(target)))
        with torch.no_grad():
            ids = pad(rows)
            choice = model(ids).argmax(-1)
        hits = [
            bool((choice[i, a - 1 : b - 1] == ids[i, a:b]).all()) for i, (a, b) in enumerate(spans)
        ]
        return sum(hits) / len(hits)

    def _keys(self, model: GPT, entity: Entity, template: str) -> tuple[Tensor, Tensor]:
        """Bare key and mean key over the 21 contexts, each [layer, d_mlp]."""
        texts = [template] + [prefix + template for prefix in self.prefixes]
        rows, last = [], []
        for text in texts:
            before, after = text.split("{}")
            head = self.tokenizer.encode(before + entity.name).ids
            rows.append(head + self.tokenizer.encode(after).ids)
            last.append(len(head) - 1)
        seen = trace(model, pad(rows))
        at = torch.tensor(last)
        keys = torch.stack([k[torch.arange(len(rows)), at] for k in seen.keys]).double()
        return keys[:, 0], keys.mean(1)

    def moments(self, model: GPT) -> Tensor:
        """Second moment of the keys of every layer, [layer, d_mlp, d_mlp]."""
        seen = trace(model, self.moment_rows)
        flat = [k.flatten(0, 1).double() for k in seen.keys]
        return torch.stack([k.T @ k / len(k) for k in flat])

    def measure(self, model: GPT) -> dict[str, object]:
        """All figures, per layer where they are per layer."""
        model.eval()
        inverse = torch.linalg.inv(self.moments(model) + 1e-9 * torch.eye(model.shape.n_inner))
        rho: dict[str, list[Tensor]] = {
            "first": [],
            "later": [],
            "cosine": [],
            "bare2": [],
            "mean2": [],
        }
        for entity, relation in self.sample:
            words = WORDINGS[relation]
            bare, mean = self._keys(model, entity, words.first[0])
            image = torch.einsum("lij,lj->li", inverse, mean)
            rho["first"].append((image * bare).sum(-1) / (image * mean).sum(-1))
            rho["cosine"].append(torch.cosine_similarity(bare, mean, dim=-1))
            rho["bare2"].append(torch.einsum("li,lij,lj->l", bare, inverse, bare))
            rho["mean2"].append((image * mean).sum(-1))
            bare, mean = self._keys(model, entity, words.later[0])
            image = torch.einsum("lij,lj->li", inverse, mean)
            rho["later"].append((image * bare).sum(-1) / (image * mean).sum(-1))
        median = {
            name: torch.stack(values).median(0).values.tolist() for name, values in rho.items()
        }
        low = (torch.stack(rho["first"]).abs() < 0.1).double().mean(0).tolist()
        seen = trace(model, self.moment_rows[:16])
        norms = [r.norm(dim=-1) for r in seen.residual]
        figures: dict[str, object] = {
            "rho_first": median["first"],
            "rho_later": median["later"],
            "rho_below_0.1": low,
            "cosine": median["cosine"],
            "bare_whitened2": median["bare2"],
            "mean_whitened2": median["mean2"],
            "residual_norm": [n[:, 1:].median().item() for n in norms],
            "massive": [(n[:, 0].median() / n[:, 1:].median()).item() for n in norms],
            "attention_to_0": [a[:, :, 1:, 0].mean().item() for a in seen.attention],
            "sink_rate": [
                (a[:, :, 1:, 0].mean((0, 2)) > 0.3).double().mean().item() for a in seen.attention
            ],
        }
        for where in ("first", "newline", "prefixed", "later", "held_first", "held_later"):
            figures[f"recall_{where}"] = self.recall(model, self.sample, where)
        for where in ("first", "prefixed", "later"):
            figures[f"recall_longer_{where}"] = self.recall(model, self.long_sample, where)
        model.train()
        return figures
