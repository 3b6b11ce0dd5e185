"""Trains the bundled model from nothing: ``python -m world.train -o DIR``.

A run can be stopped at any time and resumes from its last checkpoint when the same command is given
again; with the same seed and number of threads it arrives at the same model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from world.anomaly import Watch
from world.corpus import World
from world.gpt import GPT
from world.recipe import BUNDLED, Phase, Recipe, learning_rate
from world.rows import NOT_LEARNED, Rows
from world.tokenizer import save_tokenizer, train_tokenizer

Report = Callable[[dict[str, Any]], None]
CHECKPOINT = "checkpoint.safetensors"


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def trained_parameters(model: GPT, frozen: int) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that a phase trains, with everything else switched off."""
    for name, parameter in model.named_parameters():
        part = name.split(".")
        is_frozen = frozen > 0 and (
            part[0] in ("wte", "wpe") or (part[0] == "h" and int(part[1]) < frozen)
        )
        parameter.requires_grad_(not is_frozen)
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def make_optimiser(model: GPT, recipe: Recipe, phase: Phase) -> torch.optim.AdamW:
    """AdamW; only matrices of the blocks and of the head decay, embeddings and biases do not."""
    named = trained_parameters(model, phase.frozen)
    decays = [p for name, p in named if p.ndim == 2 and name.split(".")[0] not in ("wte", "wpe")]
    others = [p for name, p in named if p.ndim < 2 or name.split(".")[0] in ("wte", "wpe")]
    groups = [
        {"params": decays, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=phase.rate, betas=recipe.betas, fused=True
    )


class Run:
    """One training run and the directory in which it lives.

    Args:
        recipe: What to do.
        directory: Where checkpoints, tokenizer and history go; a run found there is continued.
        compiled: Whether to compile the loss, which needs a C++ compiler and is half again as fast.
    """

    def __init__(self, recipe: Recipe, directory: Path, *, compiled: bool = True) -> None:
        self.recipe, self.directory = recipe, directory
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "recipe.json").write_text(json.dumps(recipe.to_json(), indent=1) + "\n")
        torch.manual_seed(recipe.seed)
        self.world = World()
        self.tokenizer = train_tokenizer(self.world, recipe.vocab_size, recipe.seed + 1)
        save_tokenizer(self.tokenizer, directory, recipe.n_positions)
        self.rows = Rows.generate(self.world, self.tokenizer, recipe.seed + 2, recipe.n_tokens)
        unseen = Rows.generate(self.world, self.tokenizer, recipe.seed + 4, 60_000)
        self.watch = Watch(self.world, self.tokenizer, unseen.stream, recipe.moment_length)
        self.model = GPT(recipe.shape)
        self.rng = np.random.default_rng(recipe.seed + 3)
        self.phase = self.step = 0
        self.minutes = 0.0
        self.optimiser = make_optimiser(self.model, recipe, recipe.phases[0])
        self._loss = torch.compile(self._plain_loss) if compiled else self._plain_loss
        if (directory / CHECKPOINT).exists():
            self._resume()

    def _plain_loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = self.model(inputs).flatten(0, 1).float()
        return F.cross_entropy(logits, targets.flatten(), ignore_index=NOT_LEARNED)

    @property
    def done(self) -> int:
        """Optimiser steps so far, over all phases."""
        return sum(p.steps for p in self.recipe.phases[: self.phase]) + self.step

    def save(self) -> None:
        """Writes a checkpoint; the old one stays until the new one is whole."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
        progress = {
            "rng": self.rng.bit_generator.state,
            "phase": self.phase,
            "step": self.step,
            "minutes": self.minutes,
        }
        partial = self.directory / "checkpoint.partial"
        save_file(tensors, partial, metadata={"progress": json.dumps(progress)})
        partial.replace(self.directory / CHECKPOINT)

    def _resume(self) -> None:
        with safe_open(self.directory / CHECKPOINT, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.model.load_state_dict(_part(tensors, "model."))
        self.phase, self.step = progress["phase"], progress["step"]
        self.minutes = progress["minutes"]
        self.rng.bit_generator.state = progress["rng"]
        if self.phase < len(self.recipe.phases):
            current = self.recipe.phases[self.phase]
            self.optimiser = make_optimiser(self.model, self.recipe, current)
            # A phase begins with a fresh optimiser: there is a state only in the middle of one.
            if self.step:
                states: dict[int, dict[str, Tensor]] = {}
                for name, value in _part(tensors, "optimiser.").items():
                    index, key = name.split(".")
                    states.setdefault(int(index), {})[key] = value
                groups = self.optimiser.state_dict()["param_groups"]
                self.optimiser.load_state_dict({"state": states, "param_groups": groups})
        history = self.directory / "history.jsonl"
        lines = history.read_text().splitlines() if history.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.done]
        history.write_text("".join(line + "\n" for line in kept))

    def _update(self, phase: Phase) -> float:
        """One optimiser step; returns its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(phase, self.step, self.recipe.warmup)
        cut = phase.cuts[self.step % len(phase.cuts)]
        ids, targets = self.rows.sample(self.rng, cut.batch, cut.length, cut.starts)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = self._loss(torch.from_numpy(ids), torch.from_numpy(targets))
        loss.backward()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_(trained, self.recipe.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.item()

    def train(self, report: Report, *, watch_every: int = 250) -> GPT:
        """Runs what is left of the recipe, calling ``report`` with each line of the history."""
        while self.phase < len(self.recipe.phases):
            phase = self.recipe.phases[self.phase]
            losses: list[float] = []
            began = time.monotonic()
            while self.step < phase.steps:
                losses.append(self._update(phase))
                self.step += 1
                if self.done % watch_every == 0 or self.step == phase.steps:
                    self.minutes += (time.monotonic() - began) / 60
                    began = time.monotonic()
                    self._record(float(np.mean(losses)), report)
                    losses = []
                    self.save()
            weights = {name: v.contiguous() for name, v in self.model.state_dict().items()}
            save_file(weights, self.directory / f"phase{self.phase}.safetensors")
            self.phase, self.step = self.phase + 1, 0
            if self.phase < len(self.recipe.phases):
                following = self.recipe.phases[self.phase]
                self.optimiser = make_optimiser(self.model, self.recipe, following)
            self.save()
        return self.model

    def _record(self, loss: float, report: Report) -> None:
        figures = {
            "step": self.done,
            "phase": self.phase,
            "minutes": round(self.minutes, 2),
            "loss": loss,
            **self.watch.measure(self.model),
        }
        with open(self.directory / "history.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        report(figures)


def load_run(directory: Path, checkpoint: str = CHECKPOINT) -> tuple[GPT, Tokenizer, Recipe]:
    """The model of a run, its tokenizer and its recipe."""
    recipe = Recipe.from_json(json.loads((directory / "recipe.json").read_text()))
    tensors = load_file(directory / checkpoint)
    model = GPT(recipe.shape)
    model.load_state_dict(_part(tensors, "model.") or tensors)
    return model.eval(), Tokenizer.from_file(str(directory / "tokenizer.json")), recipe


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m world.train", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="directory of the run")
    parser.add_argument("--threads", type=int, default=2, help="threads for PyTorch (default 2)")
    parser.add_argument("--no-compile", action="store_true", help="do without a C++ compiler")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    from world.progress import Display

    run = Run(BUNDLED, options.output, compiled=not options.no_compile)
    with Display(run.recipe) as display:
        run.train(display.show)


if __name__ == "__main__":
    main()
