"""The command line of ``python -m diag.keys``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rome_diagnosis import command

if TYPE_CHECKING:
    from diag.keys.run import KeyDiagnosis
    from probes.model.loaded import LoadedModel
    from probes.request.request import Request
    from probes.second_moment.moment import SecondMoment

# diag.mathematics.damage.CLAMP_NORM_FACTOR, without its imports; a test holds them together
CLAMP = 4.0


def diagnose(
    subject: str,
    prompt: str | None = None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
    model: LoadedModel | str | None = None,
    layer: int | None = None,
    prefixes: Sequence[str] | None = None,
    n_prefixes: int = 20,
    seed: int = 0,
    second_moment: SecondMoment | str = "auto",
    clamp: float = CLAMP,
) -> KeyDiagnosis:
    """Diagnoses one edit before it is made.

    Args:
        subject: The subject of the fact.
        prompt: With ``{}`` for the subject, or with the subject in it once; by default the prompt
            of a fact the bundled world knows about the subject, else ``"{} is"``.
        target_new: What the edit should make the model say; kept with the result.
        target_true: What the model says now; kept with the result.
        model: A loaded model, a directory or a hub name; the bundled model by default.
        layer: The edited block; by default the one published work edits.
        prefixes: Contexts 1…n as texts; sampled from the model by default.
        n_prefixes: How many to sample.
        seed: Of the sampling.
        second_moment: C itself, a file, ``"identity"`` or ``"auto"``.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖ when v* is optimised.

    Returns:
        Everything measured, with findings and a verdict.

    Raises:
        UserError: For anything the caller can put right.
    """
    import probes.request.prefixes
    from diag.keys.run import measure
    from rome_diagnosis.errors import UserError

    if not clamp > 0:
        raise UserError(f"the clamp factor must be above 0, not {clamp}")
    edit = choose_request(subject, prompt, target_new=target_new, target_true=target_true)
    loaded, block = settle(model, layer)
    moment = (
        command.find_second_moment(loaded, block, second_moment)
        if isinstance(second_moment, str)
        else second_moment
    )
    given = prefixes is not None
    texts = (
        probes.request.prefixes.given(prefixes)
        if prefixes is not None
        else probes.request.prefixes.sample(loaded, n=n_prefixes, seed=seed)
    )
    return measure(loaded, edit, block, texts, moment, clamp=clamp, seed=seed, sampled=not given)


def choose_request(
    subject: str,
    prompt: str | None,
    *,
    target_new: str | None = None,
    target_true: str | None = None,
) -> Request:
    """The request as asked for, its prompt filled in from the bundled world where there is none.

    Args:
        subject: The subject.
        prompt: The prompt, or ``None``.
        target_new: The new object, or ``None``.
        target_true: The present object, or ``None``.

    Returns:
        The request.

    Raises:
        UserError: As :func:`probes.request.request.request`.
    """
    from probes import bundled
    from probes.request.request import request

    if prompt is None:
        known = next((fact for fact in bundled.facts() if fact["subject"] == subject), None)
        if known is None:
            prompt = "{} is"
        else:
            prompt = known["prompt"]
            target_new = target_new or known["target_new"]
            target_true = target_true or known["target_true"]
    return request(subject, prompt, target_new=target_new, target_true=target_true)


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("diag.keys", "Will editing this fact with ROME break the model?")
    command.add_request_options(parser)
    command.add_model_options(parser)
    parser.add_argument(
        "--clamp-factor", type=float, default=CLAMP,
        help="v* may move this many times the length of the present value",
    )  # fmt: skip
    command.add_output_options(parser)
    parser.add_argument(
        "--save-tensors", metavar="FILE", default=argparse.SUPPRESS,
        help="keys and second moment as safetensors",
    )  # fmt: skip
    parser.add_argument(
        "--fail-on", choices=("collapse_risk", "unclear"), default=argparse.SUPPRESS,
        help="exit with code 1 at this verdict or a worse one",
    )  # fmt: skip
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code.

    Raises:
        UserError: For anything the user can put right.
    """
    options = build_parser().parse_args(arguments)
    asked = vars(options)
    to_json, to_html, to_tensors = (asked.get(key) for key in ("json", "html", "save_tensors"))
    command.check_writable(to_json, to_html, to_tensors)
    quiet = asked.get("quiet", False)
    # The request is read first: a typing mistake should not wait for a model to load.
    edit = choose_request(
        options.subject,
        asked.get("prompt"),
        target_new=asked.get("target_new"),
        target_true=asked.get("target_true"),
    )
    model, layer = command.load_model(options)
    result = diagnose(
        edit.subject,
        edit.prompt,
        target_new=edit.target_new,
        target_true=edit.target_true,
        model=model,
        layer=layer,
        prefixes=asked.get("prefix"),
        n_prefixes=options.n_prefixes,
        seed=options.seed,
        second_moment=command.find_second_moment(model, layer, options.second_moment, quiet=quiet),
        clamp=options.clamp_factor,
    )
    if to_tensors:
        result.save_tensors(to_tensors)
    if to_json:
        command.write_text(to_json, result.to_json())
    if to_html:
        command.write_text(to_html, result.to_html())
    if not quiet and to_json != "-":
        import reports.text.keys

        reports.text.keys.show(result.document)
    worse = {"collapse_risk": ("collapse_risk",), "unclear": ("unclear", "collapse_risk")}
    return int(result.verdict in worse.get(asked.get("fail_on", ""), ()))


def settle(model: LoadedModel | str | None, layer: int | None) -> tuple[LoadedModel, int]:
    """Loads a model that is only named, and settles the layer."""
    if model is None or isinstance(model, str):
        words = [] if model is None else ["--model", model]
        if layer is not None:
            words += ["--layer", str(layer)]
        options = argparse.ArgumentParser()
        command.add_model_options(options)
        return command.load_model(options.parse_args(words))
    block = model.default_layer() if layer is None else layer
    model.check_layer(block)
    return model, block
