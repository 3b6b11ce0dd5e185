"""A sweep says at each block what the diagnosis of that block says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from diag.keys import diagnose
from diag.sweep import sweep
from diag.sweep.result import LayerSweep
from probes.model.loaded import LoadedModel
from probes.second_moment import choose
from reports.command import markdown, page, text
from rome_diagnosis.editors import EDITORS
from rome_diagnosis.errors import UserError

EDIT = {"subject": "Apple", "prompt": "{} was founded by"}


@pytest.fixture(scope="module")
def swept(tiny_model: Callable[[str], LoadedModel]) -> LayerSweep:
    return sweep(**EDIT, model=tiny_model("gpt2"), layers=[0, 2], quiet=True)


def test_every_block_has_the_numbers_of_its_own_diagnosis(
    swept: LayerSweep, tiny_model: Callable[[str], LoadedModel]
) -> None:
    assert [row["layer"] for row in swept.document["layers"]] == [0, 2]
    for row in swept.document["layers"]:
        alone = diagnose(**EDIT, model=tiny_model("gpt2"), layer=row["layer"], quiet=True).document
        assert row["ratio"] == pytest.approx(alone["denominators"]["ratio"], rel=1e-6)
        assert row["verdict"] == alone["verdict"]
        for name in EDITORS:
            own = row["editors"][name]
            assert own["denominator"] == pytest.approx(alone["denominators"][name], rel=1e-6)
            for figure in ("relative_bound", "relative_bound_first_tokens"):
                assert own[figure] == pytest.approx(alone["damage"][name][figure], rel=1e-6)
            assert own["bare"] == pytest.approx(alone["response"][name]["bare"], rel=1e-6)
    ratios = [row["ratio"] for row in swept.document["layers"]]
    assert ratios[0] != pytest.approx(ratios[1], rel=1e-3)  # the control


def test_all_blocks_are_swept_and_missing_second_moments_come_from_one_pass(
    tiny_model: Callable[[str], LoadedModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(choose.CACHE_VARIABLE, str(tmp_path))
    passes: list[list[int]] = []
    estimate_layers = choose.estimate_layers

    def counted(model, layers, *arguments, **options):
        passes.append(list(layers))
        return estimate_layers(model, layers, *arguments, **options)

    monkeypatch.setattr(choose, "estimate_layers", counted)
    model = tiny_model("llama")
    every = sweep(**EDIT, model=model, quiet=True)
    assert list(every.verdicts) == list(range(int(model.config.n_layers)))
    assert passes == [list(every.verdicts)]
    again = sweep(**EDIT, model=model, quiet=True)
    assert len(passes) == 1
    assert again.document["layers"] == [
        row | {"second_moment": row["second_moment"] | {"source": "estimated"}}
        for row in every.document["layers"]
    ]


def test_it_is_a_table_a_page_a_text_and_markdown(swept: LayerSweep) -> None:
    table = swept.to_pandas()
    assert list(table.index) == [0, 2] and table["rho"].notna().all()
    for render in (page, text, markdown):
        shown = render([json.loads(swept.to_json())])
        assert "Apple" in shown and "C-ROME" in shown
    assert "C-ROME: 0: " in repr(swept.plot_damage())


@pytest.mark.parametrize("layers", [[], "some", ["1"], [0.5], 3])
def test_what_is_no_block_is_refused(layers, tiny_model: Callable[[str], LoadedModel]) -> None:
    with pytest.raises(UserError, match="layers are block numbers"):
        sweep(**EDIT, model=tiny_model("gpt2"), layers=layers, quiet=True)


def test_a_file_for_each_block_is_named_with_the_block(
    tiny_model: Callable[[str], LoadedModel], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"one file: put \{layer\} into the name"):
        sweep(**EDIT, model=tiny_model("gpt2"), layers=[0, 1], quiet=True,
              second_moment=str(tmp_path / "c.safetensors"))  # fmt: skip
    with pytest.raises(UserError, match=r"no second moment file .*c-0"):
        sweep(**EDIT, model=tiny_model("gpt2"), layers=[0, 1], quiet=True,
              second_moment=str(tmp_path / "c-{layer}.safetensors"))  # fmt: skip
