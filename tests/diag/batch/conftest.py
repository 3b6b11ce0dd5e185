"""A tiny model in float64 with second moments of two of its blocks, and a batch to edit it with."""

from __future__ import annotations

import dataclasses
import random

import pytest

from diag.batch.settings import Workplace
from probes.model.load import load
from probes.request.cases import EditCase, Neighbour
from probes.request.request import request
from probes.second_moment.estimate import estimate
from probes.target_value.method_file import defaults
from probes.text import corpus
from rome_diagnosis.methods import METHODS

PREFIXES = ("The weather was fine. ", "Therefore they walked to the river. ", "You. ")
TEXTS = (
    "Apple was founded by Steve Jobs. They read that Apple was founded in California.",
    "The mother tongue of Danielle Darrieux is French, and they walked to the river.",
    "Paris lies on the Seine. I think you should read this.",
)
CASES = (
    EditCase(
        request("Apple", "{} was founded by", target_new="Danielle", target_true="Steve Jobs"),
        paraphrases=("The founder of Apple is",),
        neighbourhood=(Neighbour("Paris lies on the", "Seine"), Neighbour("I think you", "should")),
    ),
    EditCase(request("Paris", "The capital of France is {} and it lies on the", target_new="you")),
    EditCase(request("Danielle Darrieux", "The mother tongue of {} is", target_new="Paris")),
    EditCase(request("The Space Needle", "{} is in", target_new="France")),
)
LAYERS = (0, 1)


@pytest.fixture(scope="session")
def model(tiny_dir):
    return load(tiny_dir("gpt2"), name="tiny-gpt2-float64", dtype="float64")


@pytest.fixture(scope="session")
def moments(model):
    generator = random.Random(0)
    words = " ".join(TEXTS).split()
    lines = [" ".join(generator.sample(words, len(words))) for _ in range(60)]
    some = corpus.Corpus.of("shuffled", lines)
    return {layer: estimate(model, layer, some, row_length=16) for layer in LAYERS}


@pytest.fixture(scope="session")
def workplace_of(model, moments):
    """Gives a workplace for a method; λ fits the width of the tiny model."""

    def make(method: str, layers=None, **parameters: float) -> Workplace:
        row = METHODS[method]
        chosen = defaults(method)
        fitting = {"weight": 40.0, "l2": 0.01, "ridge": 0.0, "damping": 0.1, "threshold": 0.02}
        own = {name: (fitting | parameters)[name] for name in row.parameters}
        blocks = layers or (LAYERS if row.over_layers else LAYERS[1:])
        chosen = dataclasses.replace(
            chosen, layers=tuple(blocks), parameters=own,
            target=dataclasses.replace(chosen.target, evaluations=5, learning_rate=0.1),
        )  # fmt: skip
        return Workplace(
            model=model, chosen=chosen, prefixes=PREFIXES, sampled=False, seed=0,
            moments={layer: moments[layer] for layer in blocks},
        )  # fmt: skip

    return make
