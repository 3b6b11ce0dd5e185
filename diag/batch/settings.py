"""What a batch is checked and edited with: model, method, layers, their second moments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from diag.mathematics.metrics import Geometry
from diag.mathematics.stream import Stream
from probes.edited.weights import writable
from probes.model.contribution import contribution
from probes.model.loaded import LoadedModel
from probes.request import prefixes
from probes.request.prefixes import LONG
from probes.second_moment.moment import SecondMoment
from probes.setup import Prepared, Setup
from probes.target_value.method_file import MethodFile
from rome_diagnosis.errors import UserError
from rome_diagnosis.methods import METHODS, Method

# Width up to which C's eigenvectors are computed for a comparison's sake: some seconds on two
# cores, and their time grows with the cube.
LARGEST_DECOMPOSED = 2048


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A loaded model, ready for batches by one method.

    Attributes:
        model: The model.
        chosen: The method, its layers, its parameters and its target's hyper-parameters.
        prefixes: Contexts 1…n.
        sampled: Whether they were sampled with ``seed``.
        seed: Seed of everything that is sampled.
        moments: The second moment of each layer's keys.
        quiet: Show no progress.
        consistent: Whether what is subtracted from a target v* is also what δ was added to, so that
            δ = 0 edits nothing; as published, δ is added to the bare prompt's value.
    """

    model: LoadedModel
    chosen: MethodFile
    prefixes: tuple[str, ...]
    sampled: bool
    seed: int
    moments: Mapping[int, SecondMoment]
    quiet: bool = True
    consistent: bool = False

    @property
    def method(self) -> Method:
        """The method's row of the table."""
        return self.chosen.row

    @property
    def layers(self) -> tuple[int, ...]:
        """The edited layers, ascending."""
        return self.chosen.layers

    @cached_property
    def geometries(self) -> Mapping[int, Geometry]:
        """Each layer under the method."""
        return {
            layer: Geometry(self.method, moment, self.chosen.parameters)
            for layer, moment in self.moments.items()
        }

    def under(self, method: Method) -> Geometry:
        """The lowest layer under another method of the family.

        Args:
            method: The method; parameters that it publishes alike with the chosen one are the
                chosen one's.

        Returns:
            The layer; the chosen method's own, whose projector may be known, for that.
        """
        layer = self.layers[0]
        own = self.geometries[layer]
        if method is self.method:
            return own
        alike = {
            name: own[name] if self.method.parameters.get(name) == value else value
            for name, value in method.parameters.items()
        }
        return Geometry(method, self.moments[layer], alike)

    @property
    def not_compared(self) -> tuple[Method, ...]:
        """Methods left out beside the chosen one: they need the eigenvectors of a large C."""
        if int(self.model.config.d_mlp) <= LARGEST_DECOMPOSED:
            return ()
        projecting = (each for each in METHODS.values() if each.metric == "projected")
        return tuple(each for each in projecting if each is not self.method)

    @property
    def notes(self) -> list[str]:
        """What a reader should know of the method's values and of what is not computed."""
        d_mlp = self.model.config.d_mlp
        return [
            *(
                f"{each.short} is not compared: the eigenvectors of a second moment of {d_mlp:,} "
                f"dimensions take long; --method {each.name} computes them"
                for each in self.not_compared
            ),
            *self.chosen.target.notes(self.model.name),
        ]

    @cached_property
    def prepared(self) -> Prepared:
        """What a measurement at the lowest edited layer needs."""
        lowest = self.layers[0]
        return Prepared(
            model=self.model, layer=lowest, prefixes=self.prefixes, sampled=self.sampled,
            seed=self.seed, moment=self.moments[lowest],
        )  # fmt: skip

    @cached_property
    def streams(self) -> Mapping[int, Stream]:
        """The residual stream after each layer."""
        return {
            layer: Stream(moment, contribution(self.model, layer))
            for layer, moment in self.moments.items()
        }


def prepare_workplace(
    setup: Setup, chosen: MethodFile, *, n_prefixes: int | None = None, writing: bool = False
) -> Workplace:
    """Loads the model and finds everything else.

    Args:
        setup: Model and second moment; its layer stands for a single one, and a file of second
            moments has ``{layer}`` in its name where there are several.
        chosen: The method; where it names no layers, the setup's layer, or the one that published
            work edits, is edited alone.
        n_prefixes: How many contexts to sample; as the method's code does by default.
        writing: Whether batches are to be made: weights that round edits away are refused before
            a second moment is estimated.

    Returns:
        The workplace.

    Raises:
        UserError: If a layer does not exist or cannot be written, or C cannot be read or belongs to
            another model.
    """
    model = setup.load()
    layers = chosen.layers or (setup.choose_layer(model),)
    for layer in layers:
        model.check_layer(layer)
        if writing:
            writable(model, layer)
    chosen = dataclasses.replace(chosen, layers=tuple(layers))
    return Workplace(
        model=model,
        chosen=chosen,
        prefixes=contexts(
            dataclasses.replace(
                setup, n_prefixes=chosen.row.contexts if n_prefixes is None else n_prefixes
            ),
            model,
            chosen.row,
        ),
        sampled=setup.prefixes is None,
        seed=setup.seed,
        moments=moments(setup, model, layers, chosen),
        quiet=setup.quiet,
    )


def no_metric(method: Method, error: ZeroDivisionError) -> UserError:
    """The mistake where a method's parameters leave it nothing to invert."""
    return UserError(
        f"{method.short} has no metric with these parameters: {error} (--weight, --ridge, --l2)"
    )


def moments(
    setup: Setup, model: LoadedModel, layers: Sequence[int], chosen: MethodFile
) -> dict[int, SecondMoment]:
    """Second moments of the edited layers; C = I where the method's file asks for that."""
    given: Any = setup.second_moment
    if isinstance(given, SecondMoment) and len(layers) > 1:
        raise UserError(
            f"{len(layers)} layers need as many second moments: give a file name with {{layer}}"
        )
    if given == "auto" and not chosen.target.second_moment_adjustment and len(layers) == 1:
        given = "identity"
    if isinstance(given, str) and given not in ("auto", "identity"):
        if len(layers) > 1 and "{layer}" not in given:
            raise UserError(
                f"{len(layers)} layers need as many second moments: {given} has no {{layer}} in it"
            )
        names = {layer: given.replace("{layer}", str(layer)) for layer in layers}
        return {
            layer: dataclasses.replace(setup, second_moment=name).find_moment(model, layer)
            for layer, name in names.items()
        }
    here = dataclasses.replace(setup, second_moment=given)
    return {layer: here.find_moment(model, layer) for layer in layers}


def contexts(setup: Setup, model: LoadedModel, method: Method) -> tuple[str, ...]:
    """Contexts 1…n as the method's published code samples them, unless some are given."""
    if setup.prefixes is not None or not method.over_layers:
        return setup.choose_prefixes(model)
    n, seed = setup.n_prefixes, setup.seed
    return tuple(prefixes.sample(model, n=n, seed=seed, start="words", lengths=(LONG,)))
