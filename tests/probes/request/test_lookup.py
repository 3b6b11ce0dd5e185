"""The subject's last token: known cases, refusals, and thousands of random texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from probes.model.loaded import LoadedModel
from probes.request.lookup import lookup
from probes.request.request import request
from rome_diagnosis.errors import UserError
from tests import oracle

# Byte-level, byte-level after NFC normalisation, and sentencepiece-like with a BOS.
TOKENIZERS = ("gpt2", "qwen2", "llama")


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    ("subject", "prompt"),
    [
        ("Apple", "{} was founded by"),
        ("Apple", "Apple was founded by"),
        ("Danielle Darrieux", "The mother tongue of {} is"),
        ("Danielle Darrieux", "The mother tongue of Danielle Darrieux is"),
        ("Paris", "{}"),
        ("O'Brien", "{}'s river is"),
        ("東京", "{} は"),
        ("東京", "The weather in 東京, Japan is"),
        ("Ἀθῆναι", "{} is"),
        ("🙂", "{} means"),
        ("France", "The capital of {}, and Paris"),
        ("Cafe\u0301", "{} is"),
        ("river", "walked to the river of France"),
    ],
)
def test_finds_the_token_that_holds_the_last_byte(
    name: str, subject: str, prompt: str,
    tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path],
) -> None:  # fmt: skip
    model = tiny_model(name)
    edit = request(subject, prompt)
    for prefix in ("", "The weather was fine. "):
        at = lookup(model, edit, prefix)
        text = prefix + edit.text
        end = len(prefix) + len(edit.before) + len(subject)
        expected = oracle.last_token(tiny_dir(name), text, end)
        assert expected is not None
        assert at.index == expected + int(model.bos)
        assert at.ids == model.tokenizer(text)["input_ids"][: at.index + 1]
        assert at.is_first_token == (at.index == 0)


def test_bare_and_prefixed_prompts_look_up_different_tokens(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    model, edit = tiny_model("gpt2"), request("Paris", "{} lies on")
    bare, prefixed = lookup(model, edit), lookup(model, edit, "The capital of France is ")
    assert (bare.token, bare.index) == ("Paris", 0)
    assert prefixed.token == "␣Paris"
    assert bare.ids[-1] != prefixed.ids[-1]


@pytest.mark.parametrize(
    ("subject", "prompt", "complaint"),
    [
        ("", "{} is", "subject is empty"),
        ("  ", "{} is", "subject is empty"),
        ("Apple", "", "prompt is empty"),
        ("Apple", "Pear is", "is not in the prompt"),
        ("Apple", "Apple and Apple", "is 2 times in the prompt"),
        ("aa", "aaa is", "is 2 times in the prompt"),
        ("Apple", "{} and {}", "2 slots"),
        ("a{}b", "a{}b is", "holds {}"),
        ("{}", "{} is", "holds {}"),
        ("Apple ", "{} is", "ends in white space"),
        ("Apple\n", "{} is", "ends in white space"),
        ("\ud800", "{} is", "not valid Unicode"),
        ("Apple", "{} is \udfff", "not valid Unicode"),
    ],
)
def test_refuses_with_one_line(subject: str, prompt: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refused:
        request(subject, prompt)
    assert "\n" not in str(refused.value)


def test_refuses_a_token_that_also_holds_later_text(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    # "Apple" is one token of the tiny vocabulary, so "App" ends inside it ...
    with pytest.raises(UserError, match="does not end where a token ends"):
        lookup(tiny_model("gpt2"), request("App", "{}le was"))
    # ... and a combining accent after the subject belongs to the subject's last letter.
    with pytest.raises(UserError, match="does not end where a token ends"):
        lookup(tiny_model("qwen2"), request("Cafe", "{}\u0301 is"))


def test_refuses_a_text_longer_than_the_model_reads(
    tiny_model: Callable[[str], LoadedModel],
) -> None:
    with pytest.raises(UserError, match="reads only 128 tokens"):
        lookup(tiny_model("gpt2"), request("Apple", "{} is"), "river " * 200)


words = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(" \n\t'’.-{}eq\u0301\u0323\u200d🙂👩東é<|>Apple"),
    ),
    max_size=12,
)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(subject=words, before=words, after=words, prefix=words)
@example(subject="e", before="", after="\u0301", prefix="")
@example(subject="👩", before="", after="\u200d🚀", prefix="a ")
@example(subject="<|endoftext|>", before="", after=" is", prefix="")
@example(subject="{}", before="a", after="b", prefix="")
def test_never_finds_a_wrong_index(
    name: str, subject: str, before: str, after: str, prefix: str,
    tiny_model: Callable[[str], LoadedModel], tiny_dir: Callable[[str], Path],
) -> None:  # fmt: skip
    model = tiny_model(name)
    try:
        edit = request(subject, before + "{}" + after)
        at = lookup(model, edit, prefix)
    except UserError as refused:
        assert "\n" not in str(refused)
        return
    text = prefix + edit.text
    end = len(prefix) + len(edit.before) + len(edit.subject)
    assert text[:end].endswith(edit.subject)
    if "<|endoftext|>" in text or "▁" in text:
        return  # the special token's text and the space mark are not spelled by their bytes
    expected = oracle.last_token(tiny_dir(name), text, end)
    assert expected is not None, "a token that also holds later text was not refused"
    assert at.index == expected + int(model.bos)
