"""What an edit is measured with: model, layer, contexts and second moment, as one value.

Every library call takes the fields of :class:`Setup` as keyword arguments, and the command line
fills them from its options. Importing this module needs no torch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from rome_diagnosis import defaults, progress
from rome_diagnosis.defaults import Autocast, DType, Engines
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing import TypeAlias

    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

    from probes.model.loaded import LoadedModel
    from probes.second_moment.moment import SecondMoment

    ModelSource: TypeAlias = (
        LoadedModel | PreTrainedModel | TransformerBridge | str | os.PathLike[str] | None
    )

BUNDLED = "bundled"
MOST_PREFIXES = 10_000  # published code samples 20


class SetupOptions(TypedDict, total=False):
    """The fields of :class:`Setup` as keyword arguments of library calls."""

    model: ModelSource
    tokenizer: Any
    layer: int | None
    prefixes: Sequence[str] | None
    n_prefixes: int
    seed: int
    second_moment: SecondMoment | str | os.PathLike[str]
    device: str | None
    dtype: DType | None
    autocast: Autocast | None
    engine: Engines
    bos: bool | None
    trust_remote_code: bool
    quiet: bool


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What to measure with; nothing of it is loaded before :meth:`prepare`.

    Attributes:
        model: A directory, a hub name, a :class:`probes.model.loaded.LoadedModel`, a
            ``transformers`` model or a ``TransformerBridge``; ``None`` for the bundled model. A
            model in memory is used where it is and left as it was.
        tokenizer: The plain fast tokenizer of a ``transformers`` model or bridge; by default the
            one that belongs to the model's name.
        layer: The edited block; by default the one published work edits, else a quarter up.
        prefixes: Contexts 1…n as texts; ``None`` samples them from the model.
        n_prefixes: How many to sample.
        seed: Seed of everything that is sampled.
        second_moment: C itself, a file, ``"identity"`` or ``"auto"``: shipped or cached, else
            estimated from packaged text.
        device: Where a model is loaded to, e.g. ``"cuda:1"``; by default a GPU if there is one.
        dtype: Type of a loaded model's weights, float32 by default.
        autocast: ``"bfloat16"`` runs passes over text in that type, for a GPU; keys, the corpus
            pass and perplexity are read so, and documents say it. ``None`` keeps a model's own.
        engine: What runs the model: see :func:`probes.forward.engine.engine_for`. ``"auto"`` keeps
            a model's own.
        bos: Whether texts begin with a begin-of-sequence token; by default as the plain tokenizer
            does it.
        trust_remote_code: Whether code that comes with a model may run.
        quiet: Print neither notes nor progress.
    """

    model: ModelSource = None
    tokenizer: Any = None
    layer: int | None = None
    prefixes: Sequence[str] | None = None
    n_prefixes: int = defaults.N_PREFIXES
    seed: int = 0
    second_moment: SecondMoment | str | os.PathLike[str] = "auto"
    device: str | None = None
    dtype: DType | None = None
    autocast: Autocast | None = None
    engine: Engines = "auto"
    bos: bool | None = None
    trust_remote_code: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be meant, before anything is loaded.

        Raises:
            UserError: Naming the first mistake.
        """
        for name in ("n_prefixes", "seed", "layer"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | None):
                raise UserError(f"{name} must be a whole number, not {value!r}")
        if not 0 <= self.seed <= defaults.LARGEST_SEED:
            raise UserError(f"seed must be from 0 to {defaults.LARGEST_SEED}, not {self.seed}")
        if not 0 <= self.n_prefixes <= MOST_PREFIXES:
            raise UserError(
                f"the number of prefixes must be from 0 to {MOST_PREFIXES}, not {self.n_prefixes}"
            )
        if self.autocast not in (None, *defaults.AUTOCAST):
            raise UserError(f"autocast must be 'bfloat16' or None, not {self.autocast!r}")
        if self.engine not in defaults.ENGINES:
            raise UserError(f"engine must be one of {defaults.ENGINES}, not {self.engine!r}")
        if isinstance(self.prefixes, str):
            raise UserError("prefixes must be a list of texts, not one text")

    def options(self) -> SetupOptions:
        """The fields as keyword arguments of a library call."""
        return cast(SetupOptions, {f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    def inputs(self) -> list[str]:
        """Files and directories that are read, and names that may be one."""
        named = (self.model, self.second_moment)
        return [os.fspath(value) for value in named if isinstance(value, str | os.PathLike)]

    def prepare(self) -> Prepared:
        """Loads the model and finds everything else.

        Returns:
            What the measurement needs.

        Raises:
            UserError: If there is no such model or layer, or C cannot be read or belongs to
                another model.
        """
        model = self.load()
        layer = self.choose_layer(model)
        moment = self.find_moment(model, layer)
        return Prepared(
            model=model,
            layer=layer,
            prefixes=self.choose_prefixes(model),
            sampled=self.prefixes is None,
            seed=self.seed,
            moment=moment,
        )

    def load(self) -> LoadedModel:
        """Loads the model, or takes the one that is given.

        A model that was loaded last by the same name, with the same options and unchanged files, is
        taken again if its weights are still the ones that were loaded.

        Returns:
            The model.

        Raises:
            UserError: If it cannot be loaded, or a model in memory contradicts ``device`` or
                ``dtype``.
        """
        model = self._load()
        if self.engine not in ("auto", model.engine):
            from probes.forward.engine import engine_for

            model = model.run_by(self.engine)
            engine_for(model)  # refuses "fast" where there is none, before anything is measured
        return model if self.autocast is None else replace(model, autocast=self.autocast)

    def _load(self) -> LoadedModel:
        if self.model is None or isinstance(self.model, str | os.PathLike):
            # Said at once: importing the libraries alone takes seconds.
            with progress.stages("loading", quiet=self.quiet) as stage:
                stage("the libraries and the model")
                from probes.model.remembered import load_once

                return load_once(
                    BUNDLED if self.model is None else os.fspath(self.model),
                    device=self.device or "auto",
                    dtype=self.dtype or "float32",
                    bos=self.bos,
                    trust_remote_code=self.trust_remote_code,
                )
        from probes.model.adopt import adopt

        model = adopt(self.model, self.tokenizer, bos=self.bos)
        wanted = {"dtype": self.dtype, "device": None if self.device == "auto" else self.device}
        for name, value in wanted.items():
            here = str(getattr(model, name))
            # "cuda" is any of them: a model that was loaded to it says cuda:0.
            if value is not None and value not in (here, here.partition(":")[0]):
                raise UserError(
                    f"{name}={value!r} is asked for, but the model in memory has {here}: "
                    f"convert it, or leave {name} out"
                )
        return model

    def choose_layer(self, model: LoadedModel) -> int:
        """The edited block.

        Raises:
            UserError: If the model has no such block.
        """
        layer = self.layer
        if layer is None:
            from probes import bundled

            layer = model.default_layer()
            # However it is named, its weights tell the bundled model.
            if model.name == BUNDLED or model.fingerprint == bundled.fingerprint():
                layer = bundled.edit_layer()
        model.check_layer(layer)
        return layer

    def choose_layers(
        self, model: LoadedModel, layers: Sequence[int] | Literal["all"]
    ) -> tuple[int, ...]:
        """Several blocks, ascending.

        Args:
            model: The model.
            layers: The blocks, each once, or ``"all"``.

        Raises:
            UserError: If that is not what they are, or the model has no such block.
        """
        every = range(int(model.config.n_layers))
        named = every if isinstance(layers, str) and layers == "all" else layers
        if isinstance(named, str) or not isinstance(named, Iterable):
            named = ()
        chosen = tuple(sorted({each for each in named if type(each) is int}))
        if not chosen or len(chosen) < len([*named]):
            raise UserError('layers are block numbers, each once, e.g. [1, 2, 5], or "all"')
        for layer in chosen:
            model.check_layer(layer)
        return chosen

    def choose_prefixes(self, model: LoadedModel) -> tuple[str, ...]:
        """Contexts 1…n: those that are given, else sampled from the model.

        Raises:
            UserError: If one that is given is empty or not valid Unicode.
        """
        from probes.request import prefixes

        if self.prefixes is not None:
            return tuple(prefixes.given(self.prefixes))
        return tuple(prefixes.sample(model, n=self.n_prefixes, seed=self.seed))

    def find_moment(self, model: LoadedModel, layer: int) -> SecondMoment:
        """The second moment, with a note and a progress bar where one has to be estimated.

        Raises:
            UserError: If it cannot be read or belongs to another model or layer.
        """
        from probes.second_moment.choose import check_moment, for_model
        from probes.second_moment.moment import SecondMoment

        if isinstance(self.second_moment, SecondMoment):
            check_moment(self.second_moment, model, layer)
            return self.second_moment
        choice = os.fspath(self.second_moment)
        with self._progress() as shown:
            return for_model(model, layer, choice, **shown)

    def find_moments(
        self, model: LoadedModel, layers: Sequence[int]
    ) -> Iterator[tuple[int, SecondMoment]]:
        """The second moments of several layers, one after another.

        Args:
            model: The model.
            layers: The blocks.

        Yields:
            Each layer and its second moment; missing ones are estimated in one pass.

        Raises:
            UserError: As :meth:`find_moment`.
        """
        from probes.second_moment.choose import for_layers
        from probes.second_moment.moment import SecondMoment

        if isinstance(self.second_moment, SecondMoment):
            for layer in layers:
                yield layer, self.find_moment(model, layer)
            return
        with self._progress() as shown:
            yield from for_layers(model, layers, os.fspath(self.second_moment), **shown)

    @contextlib.contextmanager
    def _progress(self) -> Iterator[dict[str, Any]]:
        """What an estimate reports to: nothing, or notes and a progress bar."""
        if self.quiet:
            yield {}
            return
        with progress.Progress(label="tokens of the second moment") as bar:

            def start(n_tokens: int) -> Callable[[int], None]:
                bar.total = n_tokens
                return bar.advance

            yield {"notice": progress.note, "progress": start}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a measurement needs, loaded.

    Attributes:
        model: The model.
        layer: The edited block.
        prefixes: Contexts 1…n.
        sampled: Whether they were sampled with ``seed``.
        seed: Seed of everything that is sampled.
        moment: Second moment of the edited block's keys.
    """

    model: LoadedModel
    layer: int
    prefixes: tuple[str, ...]
    sampled: bool
    seed: int
    moment: SecondMoment


def load_model(
    model: ModelSource = None,
    *,
    tokenizer: Any = None,
    device: str | None = None,
    dtype: DType | None = None,
    autocast: Autocast | None = None,
    engine: Engines = "auto",
    bos: bool | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Loads a model once, to be given to many calls.

    Args:
        model: As in :class:`Setup`, like all others.
        tokenizer: As in :class:`Setup`.
        device: As in :class:`Setup`.
        dtype: As in :class:`Setup`.
        autocast: As in :class:`Setup`.
        engine: As in :class:`Setup`.
        bos: As in :class:`Setup`.
        trust_remote_code: As in :class:`Setup`.

    Returns:
        The model; nobody else has it.

    Raises:
        UserError: If it cannot be loaded, or a key could not be measured on it.
    """
    from probes.model.remembered import forget

    forget()
    loaded = Setup(
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        autocast=autocast,
        engine=engine,
        bos=bos,
        trust_remote_code=trust_remote_code,
    ).load()
    forget()
    return loaded
