"""Teacher forcing and generation against whole passes through an untouched model."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from probes.edited.answers import AnswerMeter, Question
from probes.edited.weights import edited, edited_by_row
from probes.forward.generate import generate, n_gram_entropy
from rome_diagnosis.errors import UserError
from tests import tiny
from tests.probes.edited.test_blocks_above import projection
from tests.probes.edited.test_weights import change

QUESTIONS = [
    Question("Apple was founded by", ("Steve Jobs", " Danielle Darrieux", "you")),
    Question("The capital of France is", ("Paris",)),
    Question("Because the weather was fine, they", ("walked to the river",)),
]


def answered(model, tokenizer, bos, question):
    """Each answer's probability, rank and greediness from a whole pass of its own."""
    found = []
    for answer in question.answers:
        spaced = answer if answer[0] == " " else " " + answer
        front = [tokenizer.bos_token_id] if bos else []
        ids = front + tokenizer(question.prompt + spaced, add_special_tokens=False)["input_ids"]
        n = len(ids) - len(front) - len(
            tokenizer(question.prompt, add_special_tokens=False)["input_ids"]
        )  # fmt: skip
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -n - 1 : -1].double()
        log_probs = torch.log_softmax(logits, -1)
        wanted = torch.tensor(ids[-n:])
        each = log_probs[torch.arange(n), wanted]
        found.append(
            (
                float(each.mean().exp()),
                int((logits[0] > logits[0, wanted[0]]).sum()) + 1,
                logits.argmax(-1).tolist() == wanted.tolist(),
                int(logits[0].argmax()),
            )
        )
    return found


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_replies_before_and_after_an_edit(tiny_dir, tiny_model, name):
    model = tiny_model(name)
    one = change(model, 4)
    meter = AnswerMeter(model, QUESTIONS, 1)
    other = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir(name)).eval()
    before = [answered(other, model.tokenizer, model.bos, q) for q in QUESTIONS]
    with torch.no_grad():
        weight, matrix = projection(other, 1).weight, torch.outer(one.u, one.r).float()
        weight += matrix if weight.shape == matrix.shape and name == "gpt2" else matrix.T
    after = [answered(other, model.tokenizer, model.bos, q) for q in QUESTIONS]
    for ours, theirs in ((meter.before, before), (meter.after([one]), after)):
        for reply, expected in zip(ours, theirs, strict=True):
            for score, (probability, rank, greedy, top) in zip(reply.scores, expected, strict=True):
                assert score.probability == pytest.approx(probability, rel=1e-3)
                assert (score.rank, score.greedy, reply.top) == (rank, greedy, top)
    assert before != after  # the control: the edit changes what is said
    assert meter.after([]) == meter.before


def test_the_response_of_prompts_is_that_of_their_tokens_keys(tiny_dir, tiny_model):
    """φ = u·k / D at every token of a prompt, by a hook on a model of its own; answers apart."""
    model = tiny_model("gpt2")
    one, denominator = change(model, 5), -2.5
    other = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2")).eval()
    seen = []
    projection(other, 1).register_forward_hook(lambda _, inputs, __: seen.append(inputs[0][0]))
    expected = []
    for question in QUESTIONS:
        with torch.no_grad():
            other(torch.tensor([model.tokens(question.prompt).ids]))
        shares = seen[-1].double() @ one.u.double() / denominator
        expected.append(float(shares[shares.abs().argmax()]))
    step = one.u[None].double() / denominator
    meter = AnswerMeter(model, QUESTIONS, 1)
    ours = meter.response(step)[:, 0].tolist()
    assert ours == pytest.approx(expected, rel=1e-4)
    assert len(set(ours)) == len(ours)
    # Of many edits the token counts that receives most of all: here the second edit decides.
    both = meter.response(torch.cat([1e-3 * step, change(model, 6).u[None].double()]))
    torch.testing.assert_close(both[:, 1:], meter.response(change(model, 6).u[None].double()))
    assert (both[:, 0] - 1e-3 * meter.response(step)[:, 0]).abs().max() > 1e-6


def test_greedy_answer_is_what_greedy_decoding_gives(tiny_model):
    """The control for ``greedy``: generated text, asked back, is greedy; another answer is not."""
    model = tiny_model("gpt2")
    prompt = "Apple was founded by"
    for length in (1, 2, 3):
        (text,) = generate(model, [prompt], n_tokens=length)
        if text.startswith(" ") and model.tokens(prompt + text).ids[-length:]:
            meter = AnswerMeter(model, [Question(prompt, (text, " Steve Jobs"))], 1)
            assert meter.before[0].scores[0].greedy
            assert meter.before[0].scores[0].rank == 1
            assert not meter.before[0].scores[1].greedy


def test_questions_that_cannot_be_asked(tiny_model):
    model = tiny_model("gpt2")
    with pytest.raises(UserError, match="empty"):
        AnswerMeter(model, [Question("Apple is", (" ",))], 1)
    with pytest.raises(UserError, match="reads only"):
        AnswerMeter(model, [Question("the river " * 70, ("Paris",))], 1)
    assert AnswerMeter(model, [], 1).before == []


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_generation_equals_hugging_faces_greedy(tiny_dir, tiny_model, name):
    """Rows of different lengths in one batch, each as Hugging Face continues it alone."""
    model = tiny_model(name)
    prompts = ["Apple", "The mother tongue of Danielle Darrieux is", "They walked"]
    ours = generate(model, prompts, n_tokens=8)
    other = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir(name)).eval()
    for prompt, text in zip(prompts, ours, strict=True):
        ids = torch.tensor([model.tokens(prompt).ids])
        for _ in range(8):
            with torch.no_grad():
                # Ids beyond the tokenizer's are padding of the embedding and stand for nothing.
                logits = other(ids).logits[:, -1, : len(model.tokenizer)]
            following = logits.argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
        expected = model.tokenizer.decode(ids[0, -8:], skip_special_tokens=True)
        assert text == expected


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_edited_models_generate_side_by_side_as_each_does_alone(tiny_model, name):
    """Rows of one batch, each with its own edit, against edits written to the weights."""
    model = tiny_model(name)
    prompts = ["Apple", "The mother tongue of Danielle Darrieux is"]
    edits = [[], [change(model, 5)], [change(model, 7), change(model, 3)]]
    before = model.output_weight(1).clone()
    with edited_by_row(model, edits, 1):
        together = generate(model, prompts, n_tokens=8, top_k=[1, 5], copies=3)
    assert torch.equal(model.output_weight(1), before)
    alone = []
    for own in edits:
        with edited(model, own, 1):
            alone += generate(model, prompts, n_tokens=8, top_k=[1, 5])
    assert together == alone
    assert len(set(together)) == len(together)  # the control: edits change what is said
    assert generate(model, prompts, n_tokens=8, top_k=[1, 5]) == alone[:2]  # no hook is left


def test_generation_is_seeded_and_follows_edits(tiny_model):
    model = tiny_model("gpt2")
    prompts = ["Apple was", "The weather"]
    sampled = [generate(model, prompts, top_k=5, n_tokens=12, seed=seed) for seed in (0, 0, 1)]
    assert sampled[0] == sampled[1]
    assert sampled[0] != sampled[2]
    mixed = generate(model, prompts, top_k=[1, 5], n_tokens=12)
    assert mixed[0] == generate(model, prompts, n_tokens=12)[0]
    with edited(model, [change(model, 5)], 1):
        inside = generate(model, prompts, n_tokens=12)
    assert inside != generate(model, prompts, n_tokens=12)
    long = "the river " * 60
    assert len(model.tokens(long).ids) < model.n_ctx
    generate(model, [long], n_tokens=500)  # stops where the context ends
    with pytest.raises(UserError, match="no room"):
        generate(model, ["the river " * 70])


def test_entropy_of_known_texts():
    """Four different bigrams and three trigrams, all once; then a text that only repeats."""
    expected = (2 / 3 * math.log2(4) + 4 / 3 * math.log2(3)) / 2
    assert n_gram_entropy(["a b c d e"]) == pytest.approx(expected)
    assert n_gram_entropy(["so so so so so"]) == 0.0
    assert n_gram_entropy(["a b c d e", "so so so"]) == pytest.approx(expected / 2)
    assert n_gram_entropy(["one"]) == 0.0
    with pytest.raises(ValueError, match="no texts"):
        n_gram_entropy([])
