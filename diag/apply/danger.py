"""A check before a dangerous edit, whatever editor is about to make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diag.judgement.verdict import VERDICTS, Verdict
from rome_diagnosis.defaults import CLAMP_FACTOR
from rome_diagnosis.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from diag.keys.result import KeyDiagnosis
    from probes.setup import SetupOptions


class DangerousEdit(UserError):
    """An edit whose verdict is as bad as the caller does not want it.

    Attributes:
        diagnosis: Why.
    """

    def __init__(self, diagnosis: KeyDiagnosis) -> None:
        """Says what and why in one line."""
        self.diagnosis = diagnosis
        request = diagnosis.document["request"]
        text = request["prompt"].replace("{}", request["subject"])
        where = f"block {diagnosis.document['site']['layer']}"
        super().__init__(
            f"{text!r} at {where}: {diagnosis.verdict}. {diagnosis.document['summary']}"
        )


def guard(
    request: Mapping[str, Any],
    *,
    refuse: Verdict = "damage_risk",
    clamp: float = CLAMP_FACTOR,
    **setup: Unpack[SetupOptions],
) -> KeyDiagnosis:
    """Raises before an edit with ROME as published that would endanger the model.

    Args:
        request: The edit, as any published format writes it: ``subject``, ``prompt`` …
        refuse: The mildest verdict to refuse, from ``safe`` over ``unclear`` and ``damage_risk``
            to ``collapse_risk``.
        clamp: ‖δ‖ is clamped to this factor times ‖v_u‖.
        **setup: Model, layer, contexts and second moment; see :class:`probes.setup.Setup`.

    Returns:
        The diagnosis, where it is milder.

    Raises:
        DangerousEdit: Where it is not.
        UserError: If the request is no edit, and for anything else the caller can put right.
    """
    from diag.keys.api import diagnose
    from probes.request.cases import edit

    wanted = edit(request)
    diagnosis = diagnose(wanted.subject, wanted.prompt, clamp=clamp, **setup)
    if VERDICTS.index(diagnosis.verdict) >= VERDICTS.index(refuse):
        raise DangerousEdit(diagnosis)
    return diagnosis


class DiagnosingEditor:
    """EasyEdit's ``BaseEditor`` that looks before it leaps: every request passes a guard first."""

    def __init__(
        self, editor: Any, *, refuse: Verdict = "damage_risk", **setup: Unpack[SetupOptions]
    ) -> None:
        """Wraps an editor.

        Args:
            editor: ``easyeditor.BaseEditor``, with ``model``, ``tok`` and ``hparams``.
            refuse: As in :func:`guard`.
            **setup: As in :func:`guard`; model, tokenizer, layer and the clamp are the editor's by
                default.
        """
        self.editor, self.refuse = editor, refuse
        defaults: dict[str, Any] = {"model": editor.model, "tokenizer": editor.tok}
        layers = getattr(editor.hparams, "layers", None)
        if layers:
            defaults["layer"] = int(layers[0])
        self.setup = {**defaults, **setup}
        self.clamp = float(getattr(editor.hparams, "clamp_norm_factor", CLAMP_FACTOR))

    def edit(
        self,
        prompts: str | Sequence[str],
        target_new: str | Sequence[str],
        ground_truth: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Checks every request, then edits as ``BaseEditor.edit`` does with the same arguments.

        Args:
            prompts: Prompts that contain their subjects.
            target_new: New objects.
            ground_truth: Present objects.
            **options: Further arguments of ``BaseEditor.edit``, ``subject`` among them.

        Returns:
            What ``BaseEditor.edit`` returns.

        Raises:
            DangerousEdit: For the first request that is refused; nothing is edited then.
            UserError: If there is no subject for each prompt.
        """
        listed = [prompts] if isinstance(prompts, str) else list(prompts)
        subjects = options.get("subject")
        subjects = [subjects] if isinstance(subjects, str) else list(subjects or ())
        if len(subjects) != len(listed):
            raise UserError(f"{len(listed)} prompts need as many subjects, not {len(subjects)}")
        for prompt, subject in zip(listed, subjects, strict=True):
            asked = {"subject": subject, "prompt": prompt}
            guard(asked, refuse=self.refuse, clamp=self.clamp, **self.setup)
        return self.editor.edit(prompts, target_new, ground_truth, **options)
