"""What benchmarks share: models, and jobs timed in turn, so that other load hits all alike."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from probes import bundled
from probes.target_value import optimise as optimisation
from probes.target_value.reader import Reader
from rome_diagnosis.defaults import ENGINES


class Timed(NamedTuple):
    """What a job returned, and how long it took.

    Attributes:
        result: What it returned.
        wall: Seconds by the clock.
        processor: Seconds that the process itself had, which other load does not lengthen.
    """

    result: Any
    wall: float
    processor: float


def timed(job: Callable[[], Any]) -> Timed:
    """Runs a job once, and waits for a GPU to be done with it."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    wall, processor = time.perf_counter(), time.process_time()
    result = job()
    wait()
    return Timed(result, time.perf_counter() - wall, time.process_time() - processor)


def matrix_rate(
    device: torch.device, width: int, *, dtype: torch.dtype = torch.float32, seconds: float = 2.0
) -> float:
    """How fast a device multiplies matrices of a model's shape.

    Args:
        device: The device.
        width: The model's.
        dtype: The matrices' type.
        seconds: How long to try.

    Returns:
        Floating point operations a second, of the best of several products.
    """
    rows = 2560 if device.type == "cpu" else 65_536
    x = torch.randn(rows, width, device=device, dtype=dtype)
    w = torch.randn(width, 4 * width, device=device, dtype=dtype)
    product = x @ w
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        took = timed(lambda: [torch.matmul(x, w, out=product) for _ in range(10)]).wall
        best = max(best, 10 * 2 * rows * 4 * width**2 / took)
    return best


def settle() -> None:
    """Keeps searches for garbage among all that is loaded out of what is timed next."""
    gc.collect()
    gc.freeze()


def in_turn(jobs: Mapping[str, Callable[[], Any]], turns: int) -> dict[str, Timed]:
    """Times jobs one after the other, turn by turn, after one turn that does not count.

    Args:
        jobs: The sides by name.
        turns: How many turns count.

    Returns:
        Each side's last result, and the shortest times it took.
    """
    for job in jobs.values():
        job()
    settle()
    taken: dict[str, list[Timed]] = {name: [] for name in jobs}
    for _ in range(turns):
        for name, job in jobs.items():
            taken[name].append(timed(job))
    return {
        name: Timed(times[-1].result, min(t.wall for t in times), min(t.processor for t in times))
        for name, times in taken.items()
    }


def step_by_step() -> AbstractContextManager[Any]:
    """Within it no GPU replays the steps of v*, whose operations nothing could count."""

    def read(reader: Reader, _: torch.nn.Module) -> Reader:
        return reader

    return mock.patch.object(optimisation, "Replayed", read)


def random_gpt2(folder: Path, **config: int) -> Path:
    """Writes a GPT-2 with random weights and the bundled model's tokenizer.

    Args:
        folder: Where to.
        **config: What differs from GPT-2 small (12 blocks, d_model 768), whose vocabulary it
            keeps: the published way computes logits over all of it.

    Returns:
        The folder.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled.model_path())
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


RANDOM: dict[str, tuple[str, dict[str, int]]] = {
    "smollm2-135m": (
        "llama",
        {
            "num_hidden_layers": 30,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49_152,
        },
    ),
    "gpt2-large": ("gpt2", {"n_layer": 36, "n_embd": 1280, "n_head": 20}),
    "gpt2-xl": ("gpt2", {"n_layer": 48, "n_embd": 1600, "n_head": 25}),
    "gptj-6b": ("gptj", {"n_layer": 28, "n_embd": 4096, "n_head": 16}),
    "llama-8b": (
        "llama",
        {
            "num_hidden_layers": 32,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128_256,
        },
    ),
}


def random_model(name: str, device: str) -> Any:
    """A Hugging Face model of a published one's shape with random weights, made where it runs.

    Args:
        name: One of :data:`RANDOM`.
        device: Where.

    Returns:
        The model, in float32.
    """
    import transformers

    kind, sizes = RANDOM[name]
    config = transformers.AutoConfig.for_model(kind, **sizes)
    torch.manual_seed(0)
    with torch.device(device):
        return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def add_engine_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--engine``."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="what runs our side: what serves any architecture, or what is written for GPT-2",
    )
