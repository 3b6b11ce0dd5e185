"""Editors are asked before they edit: a dangerous edit raises, EasyEdit's editor included."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from diag.apply import DangerousEdit, DiagnosingEditor, guard
from probes import bundled
from rome_diagnosis.errors import UserError


def test_guard_raises_before_a_dangerous_edit_and_passes_a_safe_one() -> None:
    with pytest.raises(DangerousEdit, match="collapse_risk") as refused:
        guard({"subject": "Apple", "prompt": "{} was founded by"}, quiet=True)
    assert refused.value.diagnosis.ratio == pytest.approx(0.0417, rel=0.02)
    later = {"subject": "Apple", "prompt": "The company that Steve Jobs founded is {}"}
    assert guard(later, quiet=True).verdict in ("safe", "unclear")


class Recorder:
    """Stands for EasyEdit's ``BaseEditor``: its published attributes and call signature."""

    def __init__(self, model: Any, tok: Any, layers: list[int]) -> None:
        self.model, self.tok = model, tok
        self.hparams = type("Hparams", (), {"layers": layers})()
        self.calls: list[tuple[Any, ...]] = []

    def edit(
        self, prompts: Any, target_new: Any, ground_truth: Any = None, target_neg: Any = None,
        rephrase_prompts: Any = None, locality_inputs: Any = None, portability_inputs: Any = None,
        sequential_edit: bool = False, verbose: bool = True, **kwargs: Any,
    ) -> str:  # fmt: skip
        self.calls.append((prompts, target_new, ground_truth, sequential_edit, kwargs))
        return "edited"


def test_easyedits_editor_edits_only_what_passes_the_guard() -> None:
    path = bundled.model_path()
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    recorder = Recorder(model, transformers.AutoTokenizer.from_pretrained(path), [1])
    moment = next((bundled.DATA / "second_moments").glob("*.safetensors"))
    editor = DiagnosingEditor(recorder, second_moment=str(moment), quiet=True)
    with pytest.raises(DangerousEdit):
        editor.edit(["Apple was founded by"], ["Bill Gates"], subject=["Apple"])
    assert recorder.calls == []
    safe = "The company that Steve Jobs founded is Apple"
    made = editor.edit([safe], ["Sony"], ["Apple"], subject=["Apple"], sequential_edit=True)
    assert made == "edited"
    assert recorder.calls == [([safe], ["Sony"], ["Apple"], True, {"subject": ["Apple"]})]
    with pytest.raises(UserError, match="as many subjects"):
        editor.edit([safe], ["Sony"])
    # The clamp that EasyEdit would edit with is the one that is judged.
    arguments: Any = ([safe], ["Sony"], ["Apple"])
    strict: dict[str, Any] = {"refuse": "unclear", "second_moment": str(moment), "quiet": True}
    DiagnosingEditor(recorder, **strict).edit(*arguments, subject=["Apple"])
    recorder.hparams.clamp_norm_factor = 400.0
    with pytest.raises(DangerousEdit):
        DiagnosingEditor(recorder, **strict).edit(*arguments, subject=["Apple"])
