"""How common a token is in ordinary text, and what verdicts make of an edit at a common word."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

import rome_diagnosis as rd
from probes import bundled
from probes.model.loaded import LoadedModel
from probes.request.commonness import ENGLISH, TEXTS, share_of_text


def test_shares_are_counts_of_the_packaged_texts(bundled_model: LoadedModel) -> None:
    encoded = [
        bundled_model.tokenizer(text, add_special_tokens=False) for text in bundled.texts()[:TEXTS]
    ]
    counts = Counter(i for each in encoded for i in each["input_ids"])
    for word in (" of", " the", "x", " Vienna"):
        (token_id,) = bundled_model.tokenizer(word, add_special_tokens=False)["input_ids"][-1:]
        share = share_of_text(bundled_model, bundled_model.token_text(token_id), 3)
        counted = counts[token_id] / counts.total()
        assert share == pytest.approx(max(counted, ENGLISH.get(word.strip(), 0)), rel=1e-12)
    assert share_of_text(bundled_model, "␣of", 3) > 0.01
    assert share_of_text(bundled_model, "no token", 3) == 0.0
    # "of" is a piece of words, but for the first of a text, which is the word itself.
    assert share_of_text(bundled_model, "of", 0) == share_of_text(bundled_model, "␣of", 3)
    assert share_of_text(bundled_model, "of", 1) < 0.001


@pytest.mark.parametrize(
    ("subject", "prompt", "verdict"),
    [
        ("of", "The capital {} Austria is", "unclear"),
        ("Hamlet was written in", "{}", "unclear"),
        ("capital", "The {} of Austria is", "unclear"),
        ("Danielle Darrieux", "The mother tongue of {} is", "safe"),
    ],
)
def test_commands_agree_on_an_edit_at_a_common_word(
    bundled_model: LoadedModel, subject: str, prompt: str, verdict: str, tmp_path: Any
) -> None:
    """These edits stay below every limit of damage, and lost a fifth of other facts."""
    one = rd.diagnose(subject, prompt, model=bundled_model, quiet=True)
    record = {"subject": subject, "prompt": prompt, "target_new": "Lima"}
    (tmp_path / "edits.json").write_text(json.dumps([record]), encoding="utf-8")
    listed = rd.sequence(tmp_path / "edits.json", model=bundled_model, quiet=True).document["edits"]
    screened = rd.screen(
        tmp_path / "edits.json", tmp_path / "s.parquet", model=bundled_model, quiet=True
    )
    batch = rd.batch(tmp_path / "edits.json", method="rome", model=bundled_model, quiet=True)
    verdicts = {
        one.verdict, listed[0]["verdict"], screened.to_pandas()["verdict"][0], batch.verdict,
    }  # fmt: skip
    assert verdicts == {verdict}
    assert one.document["damage"]["rome"]["relative_bound"] < 0.1
    status = {each["id"]: each["status"] for each in one.document["findings"]}
    assert ("warn" in (status["common_token"], status["asked_with"])) == (verdict == "unclear")
    said = "last token" in one.document["summary"] or "asked with" in one.document["summary"]
    assert ("as its subject" in one.document["summary"]) == (verdict == "unclear")
    assert "smaller clamp factor" not in one.document["summary"]  # which would not help
    assert said == (verdict == "unclear")
