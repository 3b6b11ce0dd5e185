"""What the benchmark of the bundled model measures: recall, keys, the first position, and edits."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diag.mathematics.update import denominators, rank_one
from probes.edited.answers import AnswerMeter, Question
from probes.edited.perplexity import PerplexityMeter
from probes.forward.batches import batches, to_float64
from probes.keys.one_edit import capture
from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import Request, request
from probes.second_moment.moment import SecondMoment
from probes.target_value.optimise import optimise
from rome_diagnosis.editors import EDITORS

BOTH = ("rome", "c_rome")
COLLAPSE = 10.0
"""An edit that raises held-out perplexity by more than this factor has collapsed the model."""
SINK = 0.3
"""A head whose later tokens pay more than this to position 0, on average, counts as a sink."""

Fact = dict[str, Any]


@dataclass(frozen=True)
class Draw:
    """An edit that was drawn: a fact, and the prompt it is edited with."""

    fact: Fact
    prompt: str

    @property
    def request(self) -> Request:
        """As the toolkit takes it."""
        return request(
            self.fact["subject"],
            self.prompt,
            target_new=self.fact["target_new"],
            target_true=self.fact["target_true"],
        )


def wordings(fact: Fact, *, first: bool, held_out: bool) -> list[str]:
    """A fact's wordings that begin with the subject, or that have it later."""
    known = fact["held_out_wordings"] if held_out else [fact["prompt"], *fact["paraphrases"]]
    return [wording for wording in known if wording.startswith("{}") == first]


def draw(facts: Sequence[Fact], n: int, *, first: bool, seed: int) -> list[Draw]:
    """Draws ``n`` edits of one-token subjects, no fact twice."""
    rng = random.Random(f"{seed}|{first}")
    chosen = rng.sample([fact for fact in facts if fact["single_token"]], n)
    return [Draw(fact, wordings(fact, first=first, held_out=False)[0]) for fact in chosen]


def recall(model: LoadedModel, facts: Sequence[Fact], prefixes: Sequence[str]) -> dict[str, Any]:
    """Share of prompts after which greedy decoding gives exactly the true object."""
    groups: dict[str, list[Question]] = {}
    for i, fact in enumerate(facts):
        length = "single_token" if fact["single_token"] else "longer"
        for held in (False, True):
            name = "held_out" if held else "trained"
            for first in (True, False):
                for j, wording in enumerate(wordings(fact, first=first, held_out=held)):
                    text = wording.format(fact["subject"])
                    answers = (fact["target_true"],)
                    place = "first" if first else "later"
                    key = f"{name}.{place}.{length}"
                    groups.setdefault(key, []).append(Question(text, answers))
                    if first:
                        text = prefixes[(i + j) % len(prefixes)] + text
                        key = f"{name}.prefixed.{length}"
                        groups.setdefault(key, []).append(Question(text, answers))
    by_group: dict[str, Any] = {}
    for key, questions in groups.items():
        hits = greedy_hits(model, questions)
        by_group[key] = {"recall": sum(hits) / len(hits), "n": len(hits)}
    return by_group


def greedy_hits(model: LoadedModel, questions: Sequence[Question]) -> list[bool]:
    """Whether each question's first answer is what greedy decoding gives."""
    replies = AnswerMeter(model, questions, model.n_layers - 1).before
    return [reply.scores[0].greedy for reply in replies]


def ratios(
    model: LoadedModel,
    draws: Iterable[Draw],
    prefixes: Sequence[str],
    layer: int,
    moment: SecondMoment,
) -> list[float]:
    """ρ of each edit."""
    edits = [draw.request for draw in draws]
    contexts = ["", *prefixes]
    sites = [lookup(model, edit, prefix) for edit in edits for prefix in contexts]
    keys = capture(model, sites, layer).keys.reshape(len(edits), len(contexts), -1)
    return [denominators(rows, moment).split.ratio for rows in keys]


def same_token_ratios(
    model: LoadedModel,
    draws: Iterable[Draw],
    prefixes: Sequence[str],
    layer: int,
    moment: SecondMoment,
) -> list[float]:
    """What ρ would be if the bare prompt's key were read after a line break.

    Without a prefix the subject is another token than after one, the one without a leading space.
    After a line break it is that same token, but not the first: what is left of a small ρ here is
    the token's doing, the rest is the position's.
    """
    values = []
    for draw in draws:
        sites = [lookup(model, draw.request, prefix) for prefix in ("", "\n", *prefixes)]
        keys = capture(model, sites, layer).keys
        mean = torch.cat([keys[:1], keys[2:]]).mean(0)
        values.append(moment.ratio(keys[1], mean))
    return values


def _keeper(seen: dict[str, torch.Tensor], name: str) -> Callable[[torch.Tensor, Any], None]:
    def hook(activation: torch.Tensor, hook: Any) -> None:
        seen[name] = to_float64(activation)

    return hook


def first_position(model: LoadedModel, rows: Sequence[list[int]]) -> list[dict[str, float]]:
    """Attention to position 0 and how far its residual stream stands out, layer by layer."""
    paid: list[list[torch.Tensor]] = [[] for _ in range(model.n_layers)]
    norms: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(model.n_layers)]
    peaks: list[list[torch.Tensor]] = [[] for _ in range(model.n_layers)]
    for batch in batches(rows, model):
        seen: dict[str, torch.Tensor] = {}
        names = [model.hook(i, s) for i in range(model.n_layers) for s in ("pattern", "resid_post")]
        hooks = [(name, _keeper(seen, name)) for name in names]
        with torch.no_grad():
            model.bridge.run_with_hooks(batch.ids, fwd_hooks=hooks, return_type=None)
        for i in range(model.n_layers):
            residual = seen[model.hook(i, "resid_post")]
            paid[i].append(seen[model.hook(i, "pattern")][:, :, 1:, 0].mean(2))
            norms[i].append((residual[:, 0].norm(dim=-1), residual[:, 1:].norm(dim=-1).flatten()))
            size = residual[:, 0].abs()
            peaks[i].append(size.max(-1).values / size.median(-1).values)
    return [
        {
            "attention_to_0": float(torch.cat(paid[i]).mean()),
            "largest_head_attention_to_0": float(torch.cat(paid[i]).mean(0).max()),
            "sink_rate": float((torch.cat(paid[i]).mean(0) > SINK).double().mean()),
            "norm_ratio": float(
                torch.cat([first for first, _ in norms[i]]).median()
                / torch.cat([later for _, later in norms[i]]).median()
            ),
            "massive_activation": float(torch.cat(peaks[i]).median()),
        }
        for i in range(model.n_layers)
    ]


def perform(
    model: LoadedModel,
    draws: Sequence[Draw],
    prefixes: Sequence[str],
    unseen: str,
    layer: int,
    moment: SecondMoment,
    texts: PerplexityMeter,
) -> list[dict[str, Any]]:
    """Performs every edit under both editors and measures perplexity and efficacy."""
    edits = [draw.request for draw in draws]
    results = []
    for draw, target in zip(draws, optimise(model, edits, prefixes, layer), strict=True):
        sites = [lookup(model, draw.request, prefix) for prefix in ("", *prefixes)]
        activations = capture(model, sites, layer)
        result: dict[str, Any] = {
            "subject": draw.fact["subject"],
            "prompt": draw.prompt,
            "target_new": draw.fact["target_new"],
            "loss": target.losses[-1],
            "clamp_saturated": target.clamp_saturated,
            "ratio": denominators(activations.keys, moment).split.ratio,
        }
        answers = (draw.fact["target_new"], draw.fact["target_true"])
        spoken = {"bare": "", "prefixed": unseen}
        asked = [Question(prefix + draw.request.text, answers) for prefix in spoken.values()]
        meter = AnswerMeter(model, asked, layer)
        for editor in BOTH:
            change = rank_one(
                EDITORS[editor], activations.keys, activations.values, target.value, moment
            )
            after = texts.after([change])
            result[editor] = {
                "perplexity_ratio": after.token_weighted / texts.before.token_weighted
            }
            for name, reply in zip(spoken, meter.after([change]), strict=True):
                new, true = reply.scores
                result[editor][name] = {
                    "success": new.probability > true.probability,
                    "greedy": new.greedy,
                }
        results.append(result)
    return results


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the edits of one group come to."""
    figures: dict[str, Any] = {
        "n": len(results),
        "median_loss": statistics.median(r["loss"] for r in results),
        "clamp_saturated": statistics.mean(r["clamp_saturated"] for r in results),
        "median_abs_ratio": statistics.median(abs(r["ratio"]) for r in results),
    }
    for editor in BOTH:
        rose = sorted(r[editor]["perplexity_ratio"] for r in results)
        figures[editor] = {
            "collapsed": sum(ratio > COLLAPSE for ratio in rose),
            "doubled": sum(ratio > 2 for ratio in rose),
            "median_perplexity_ratio": statistics.median(rose),
            "largest_perplexity_ratio": rose[-1],
        }
        for name in ("bare", "prefixed"):
            for kind in ("success", "greedy"):
                share = statistics.mean(r[editor][name][kind] for r in results)
                figures[editor][f"{kind}_{name}"] = share
    return figures
