"""A second moment belongs to one model, layer and convention; without one, it is estimated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from probes import bundled
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.second_moment import choose, stored
from probes.second_moment.estimate import estimate
from probes.second_moment.moment import SecondMoment
from probes.text.corpus import Corpus
from rome_diagnosis.errors import UserError
from tests import tiny


def test_a_moment_of_other_weights_layer_or_convention_is_refused(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel],
    tiny_dir: Callable[[str], Path], tmp_path: Path,
) -> None:  # fmt: skip
    model = tiny_model("gpt2")
    path = str(tmp_path / "c.safetensors")
    stored.save(estimated, path)
    assert choose.for_model(model, 1, path).source == path
    with pytest.raises(UserError, match="another layer: 1, where 2"):
        choose.for_model(model, 2, path)
    other = load(tiny.save("gpt2", tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="measured on other weights"):
        choose.for_model(other, 1, path)
    with pytest.raises(UserError, match="begin-of-sequence"):
        choose.for_model(load(tiny_dir("gpt2"), bos=True), 1, path)


def test_a_file_is_read_once_until_it_changes(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel], tmp_path: Path
) -> None:
    model, path = tiny_model("gpt2"), str(tmp_path / "c.safetensors")
    stored.save(estimated, path)
    first = choose.for_model(model, 1, path)
    assert choose.for_model(model, 1, path) is first
    stored.save(replace(estimated, moment=2 * estimated.moment), path)
    with pytest.raises(UserError, match="cannot be the second moment"):
        choose.for_model(model, 1, path)
    stored.save(estimated, path)
    again = choose.for_model(model, 1, path)
    assert again is not first and torch.equal(again.moment, first.moment)


def test_weights_of_another_type_are_called_that(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel],
    tiny_dir: Callable[[str], Path], text: Corpus,
) -> None:  # fmt: skip
    half = load(tiny_dir("gpt2"), dtype="float16")
    with pytest.raises(UserError, match=r"in float32, and .* is loaded in float16: load it with"):
        choose.check_moment(estimated, half, 1)
    of_half = estimate(half, 1, text, row_length=32)
    choose.check_moment(of_half, half, 1)
    with pytest.raises(UserError, match=r"in float16, and .* is loaded in float32: load it with"):
        choose.check_moment(of_half, tiny_model("gpt2"), 1)


def test_auto_estimates_once_says_so_and_keeps_it(
    tiny_model: Callable[[str], LoadedModel], cache: Path
) -> None:
    model = tiny_model("neox")
    notices: list[str] = []
    first = choose.for_model(model, 2, "auto", notice=notices.append)
    kept = cache / f"{model.fingerprint}-L2.safetensors"
    assert "packaged text" in notices[0] and kept.exists()
    assert notices[1] == f"the estimate is kept in {kept}"
    again = choose.for_model(model, 2, "auto", notice=notices.append)
    assert len(notices) == 2
    assert torch.equal(first.moment, again.moment)
    assert first.describe() == again.describe()
    assert not first.is_identity


@pytest.mark.parametrize("variable", [choose.CACHE_VARIABLE, "XDG_CACHE_HOME", "HOME"])
def test_an_estimate_that_cannot_be_kept_is_used_all_the_same(
    variable: str, tiny_model: Callable[[str], LoadedModel], estimated: SecondMoment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(choose, "estimate_layers", lambda *_, **__: [(1, estimated)])
    for name in (choose.CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/proc/nowhere")
    notices: list[str] = []
    assert choose.for_model(tiny_model("gpt2"), 1, notice=notices.append) is estimated
    assert "the estimate is not kept: cannot write" in notices[1]


def test_without_a_home_directory_too(
    tiny_model: Callable[[str], LoadedModel], estimated: SecondMoment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def homeless(cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(choose, "estimate_layers", lambda *_, **__: [(1, estimated)])
    for name in (choose.CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", classmethod(homeless))
    notices: list[str] = []
    assert choose.for_model(tiny_model("gpt2"), 1, notice=notices.append) is estimated
    assert choose.CACHE_VARIABLE in notices[1]


def test_the_norm_in_an_earlier_file_is_held_against_the_model(
    bundled_model: LoadedModel,
) -> None:
    layer = bundled.edit_layer()
    shipped = choose.for_model(bundled_model, layer)
    background = replace(shipped.background, first_norms=None, later_norms=None)
    choose.check_moment(replace(shipped, background=background), bundled_model, layer)
    for factor in (1e-30, 0.3, 3.0, 1e30):
        norm = factor * background.residual_norm
        wrong = replace(shipped, background=replace(background, residual_norm=norm))
        with pytest.raises(UserError, match="median norm"):
            choose.check_moment(wrong, bundled_model, layer)
