"""Edits performed and measured, against real weights changed and whole passes."""

from __future__ import annotations

import json
import random

import pytest
import torch
import transformers

from diag.mathematics.damage import rms_change
from diag.verify import key_map, verify, verify_list
from diag.verify.run import prepare
from diag.verify.settings import Facts, Settings, Texts
from probes.edited.answers import AnswerMeter, Question
from probes.edited.perplexity import PerplexityMeter
from probes.edited.weights import edited
from probes.model.load import load
from probes.request.cases import EditCase, Neighbour
from probes.request.records import Edits
from probes.request.request import request
from probes.second_moment.estimate import estimate
from probes.setup import Prepared
from probes.target_value.hyperparameters import Hyperparameters
from probes.text import corpus
from rome_diagnosis.editors import ARMS
from rome_diagnosis.errors import UserError
from tests.probes.edited.test_blocks_above import projection

TEXTS = [
    "Apple was founded by Steve Jobs. They read that Apple was founded in California.",
    "The mother tongue of Danielle Darrieux is French, and they walked to the river.",
    "Paris lies on the Seine. I think you should read this.",
]
PREFIXES = ["The weather was fine. ", "Therefore they walked to the river. ", "You. "]
SETTINGS = Hyperparameters(evaluations=6)
CASES = [
    EditCase(
        request("Apple", "{} was founded by", target_new="Danielle", target_true="Steve Jobs"),
        paraphrases=("The founder of Apple is", "They read that Apple was founded by"),
        neighbourhood=(Neighbour("Paris lies on the", "Seine"), Neighbour("I think you", "should")),
        group="one",
    ),
    EditCase(request("Paris", "The capital of France is {} and it lies on the", target_new="you")),
    EditCase(request("the river " * 60 + "Seine", "{} is", target_new="Paris")),
    EditCase(request("Danielle Darrieux", "The mother tongue of {} is", target_new="French")),
]


@pytest.fixture(scope="module", autouse=True)
def few_tokens():
    """Generates little and samples nothing: both are tested elsewhere."""

    def sample(model, *, n, seed):
        return [f"Seed {seed} text {i}. " for i in range(n)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("probes.request.prefixes.sample", sample)
        patch.setattr("diag.verify.behaviour.KNOWN_FACTS", 2)
        yield


def shuffled_corpus():
    """More tokens than the keys have dimensions, many times over."""
    generator = random.Random(0)
    words = " ".join(TEXTS).split()
    lines = [" ".join(generator.sample(words, len(words))) for _ in range(60)]
    return corpus.Corpus.of("shuffled", lines)


@pytest.fixture(scope="module")
def moment(tiny_model):
    return estimate(tiny_model("gpt2"), 1, shuffled_corpus(), row_length=16)


def run_of(model, moment, *, known=(), hyperparameters=SETTINGS, **options):
    setup = Prepared(
        model=model, layer=1, prefixes=tuple(PREFIXES), sampled=False, seed=0, moment=moment
    )
    settings = Settings(
        hyperparameters=hyperparameters,
        texts=Texts("a few texts", tuple(TEXTS), forced=True),
        facts=Facts("none", tuple(known)),
        generated_tokens=4,
        **options,
    )
    return prepare(setup, settings)


@pytest.fixture(scope="module")
def bench(tiny_model, moment):
    return run_of(tiny_model("gpt2"), moment)


@pytest.fixture(scope="module")
def result(bench):
    return bench.one(CASES[0])


def loss(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum")


def test_figures_equal_those_of_a_model_with_changed_weights(tiny_dir, tiny_model, bench, result):
    """Every arm's edit written into an untouched model, which is then asked as a whole."""
    tokenizer = tiny_model("gpt2").tokenizer
    (target,) = bench.bench.target_values([CASES[0]])
    factors = bench.bench.factors(bench.bench.observe(CASES[0]), target)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    for arm, found in result.arms.items():
        change = factors[ARMS[arm].editor]
        model = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2")).eval()
        weight = projection(model, 1).weight
        before = sum(loss(model, row) for row in ids)
        size = weight.detach().double().norm()
        with torch.no_grad():
            weight += change.matrix().float()
        after = sum(loss(model, row) for row in ids)
        n = sum(len(row) - 1 for row in ids)
        perplexity = found["perplexity"]
        assert perplexity["before"] == pytest.approx(float((before / n).exp()), rel=1e-4)
        assert perplexity["after"] == pytest.approx(float((after / n).exp()), rel=1e-3)
        assert perplexity["ratio"] == pytest.approx(float(((after - before) / n).exp()), rel=1e-3)
        assert found["relative_update_norm"] == pytest.approx(float(change.norm / size))
        assert found["update_norm"] == pytest.approx(
            found["numerator_norm"] / abs(found["denominator_normalised"])
        )
        prefix = PREFIXES[0] if arm == "c_rome_prefixed" else ""
        prompt = tokenizer(prefix + CASES[0].request.text)["input_ids"]
        probability = {}
        for answer in (" Danielle", " Steve Jobs"):
            wanted = tokenizer(answer)["input_ids"]
            whole = prompt + wanted
            nll = loss(model, whole) - loss(model, prompt)
            probability[answer] = float((-nll / len(wanted)).exp())
        efficacy = found["efficacy"]
        assert efficacy["p_after"] == pytest.approx(probability[" Danielle"], rel=1e-2)
        assert efficacy["p_true_after"] == pytest.approx(probability[" Steve Jobs"], rel=1e-2)
        assert efficacy["success"] == (probability[" Danielle"] > probability[" Steve Jobs"])
    assert (
        result.arms["rome"]["perplexity"]["ratio"] != result.arms["c_rome"]["perplexity"]["ratio"]
    )


def test_prefixed_arm_has_the_same_weights_and_other_prompts(result):
    plain, prefixed = (result.arms[arm] for arm in ("c_rome", "c_rome_prefixed"))
    for same in ("denominator", "update_norm", "perplexity", "damage", "recall"):
        assert plain[same] == prefixed[same]
    assert prefixed["prefix"] == PREFIXES[0]
    assert prefixed["unseen_prefix"]["prefix"] not in PREFIXES
    before = {
        plain["efficacy"]["p_before"],
        prefixed["efficacy"]["p_before"],
        prefixed["unseen_prefix"]["efficacy"]["p_before"],
    }
    assert len(before) == 3  # each wording has a before of its own


def test_document_keeps_the_contract(result):
    document = json.loads(result.to_json())
    assert document == result.document
    assert document["schema"] == "diag.verify/1"
    assert list(document["arms"]) == ["rome", "c_rome", "p_rome", "c_rome_prefixed"]
    for arm in document["arms"].values():
        assert {
            "denominator", "numerator_norm", "update_norm", "relative_update_norm", "damage",
            "perplexity", "efficacy", "generalisation", "locality", "portability", "entropy",
            "recall", "text",
        } <= set(arm)  # fmt: skip
        assert {"predicted", "measured", "relative"} <= set(arm["damage"])
        assert {"p_before", "p_after", "rank_after", "success", "generated"} <= set(arm["efficacy"])
    assert {"steps", "loss", "delta_norm", "clamp_saturated"} <= set(document["optimisation"])
    assert list(document["collapsed"]) == list(document["arms"])
    assert document["request"]["subject"] == "Apple"
    assert len(result.to_pandas()) == 4
    assert "'Apple'" in repr(result)
    assert "<script" not in result._repr_html_()


def test_predicted_damage_is_the_measured_one_on_its_own_corpus(
    tiny_dir, tiny_model, moment, bench
):
    """On the rows C was estimated on, the closed form is what happens; elsewhere it is not."""
    model = tiny_model("gpt2")
    rows = list(corpus.rows(model, shuffled_corpus(), length=16))
    (target,) = bench.bench.target_values([CASES[0]])
    for variant, change in bench.bench.factors(bench.bench.observe(CASES[0]), target).items():
        seen = []
        other = transformers.AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2")).eval()
        handle = projection(other, 1).register_forward_hook(
            lambda m, i, out, change=change, seen=seen: seen.append(
                (i[0][0].double() @ change.u)[:, None] * change.r
            )
        )
        with torch.no_grad():
            for row in rows:
                other(torch.tensor([row]))
        handle.remove()
        moved = float(torch.cat(seen).square().sum(1).mean().sqrt())
        numerator = float(change.r.norm()) * abs(change.denominator)
        predicted = rms_change(numerator, change.u, change.denominator, moment.moment)
        assert predicted == pytest.approx(moved, rel=1e-3), variant
        elsewhere = PerplexityMeter(model, TEXTS[:1], 1).rms_change([change])
        assert abs(elsewhere / moved - 1) > 0.01


def test_consistent_target_edits_nothing_when_delta_is_zero(tiny_model, moment):
    still = Hyperparameters(evaluations=1)  # no step is taken
    ratios = {}
    for kind in ("published", "consistent"):
        of_kind = run_of(tiny_model("gpt2"), moment, hyperparameters=still, c_rome_target=kind)
        ratios[kind] = of_kind.one(CASES[0]).arms
    assert ratios["consistent"]["c_rome"]["update_norm"] == pytest.approx(0, abs=1e-9)
    assert ratios["published"]["c_rome"]["update_norm"] > 1e-3
    assert ratios["published"]["rome"]["update_norm"] == 0
    assert ratios["published"]["rome"]["perplexity"]["ratio"] == pytest.approx(1, rel=1e-6)


def test_recall_asks_only_what_the_model_knew(tiny_model):
    from diag.verify.behaviour import Recall
    from probes.forward.generate import generate

    model = tiny_model("gpt2")
    knows = []
    for subject in ("Apple", "Paris", "Seine"):
        (answer,) = generate(model, [f"{subject} was"], n_tokens=1)
        ids = model.tokens(f"{subject} was").ids
        with_answer = model.tokens(f"{subject} was {answer.strip()}").ids
        if answer.startswith(" ") and with_answer[: len(ids)] == ids:
            edit = request(subject, "{} was", target_new="you", target_true=answer)
            knows.append(EditCase(edit))
    unknown = EditCase(request("Apple", "{} is", target_new="you", target_true="Danielle Darrieux"))
    recall = Recall(model, [*knows, unknown], 1)
    reply = AnswerMeter(model, [Question("Apple is", ("Danielle Darrieux",))], 1).before[0]
    assert not reply.scores[0].greedy
    assert recall.n == len(knows)
    if knows:
        found = recall.after([], without="nobody")
        assert found == {"before": 1.0, "after": 1.0, "n": len(knows)}
    assert Recall(model, [unknown], 1).after([], without="nobody") is None


def test_the_unedited_model_is_measured_once(tiny_dir, moment, monkeypatch, tmp_path):
    """Texts and facts by the model that is loaded, which facts are known by the user's cache."""
    monkeypatch.setenv("ROME_DIAGNOSIS_CACHE", str(tmp_path))
    asked = []

    class Counted(AnswerMeter):
        def __init__(self, model, questions, layer):
            asked.append(len(questions))
            super().__init__(model, questions, layer)

    monkeypatch.setattr("diag.verify.behaviour.AnswerMeter", Counted)
    known = [EditCase(edit.request) for edit in CASES if edit.neighbourhood]
    model = load(tiny_dir("gpt2"))
    first, again = (run_of(model, moment, known=known).bench for _ in range(2))
    assert again.texts is first.texts
    assert again.recall is first.recall
    before = first.texts.before
    assert asked == [1, first.recall.n]
    anew = run_of(load(tiny_dir("gpt2")), moment, known=known).bench
    assert anew.recall.n == first.recall.n
    assert asked == [1, first.recall.n, first.recall.n]  # the candidates were not asked again
    with torch.no_grad():
        model.output_weight(2).mul_(-3)
    other = run_of(model, moment, known=known).bench
    assert other.texts.before != before
    assert asked[3] == 1  # the control: other weights are asked anew


def test_weights_are_those_from_before(tiny_model, bench, result):
    model = tiny_model("gpt2")
    assert PerplexityMeter(model, TEXTS, 1).before == bench.bench.texts.before
    with edited(model, [], 1):
        pass


def undisturbed(document):
    return {name: value for name, value in document.items() if name != "created"}


@pytest.fixture(scope="module")
def compared(bench):
    return bench.many(Edits(tuple(CASES)))


def test_list_measures_each_edit_as_alone(bench, compared, result):
    assert [("error" in edit) for edit in compared.edits] == [False, False, True, False]
    assert "reads only" in compared.edits[2]["error"]
    assert compared.summary["n"] == 3
    assert compared.summary["n_errors"] == 1
    assert compared.edits[0]["request"] == result.document["request"]
    alone = result.arms["rome"]["perplexity"]["ratio"]
    assert compared.edits[0]["arms"]["rome"]["perplexity"]["ratio"] == pytest.approx(
        alone, rel=1e-3
    )
    assert set(compared.groups) == {"collapse", "first_token", "record"}
    names = [group["name"] for group in compared.groups["first_token"]]
    assert names == ["first token", "later token"]
    assert len(compared.to_pandas()) == 12


def test_a_list_knows_where_its_keys_lie(bench, compared):
    found = compared.document["projections"]
    assert [point["kind"] for point in found["keys"]["points"]] == ["unprefixed"] * 3 + [
        "prefixed"
    ] * 3
    assert [point["subject"] for point in found["directions"]["points"]] == ["0", "1", "3"]
    for point, i in zip(found["directions"]["points"], (0, 1, 3), strict=True):
        # ρ is the ratio of the denominators that the edits were made with.
        arms = compared.edits[i]["arms"]
        ratio = arms["rome"]["denominator"] / arms["c_rome"]["denominator"]
        assert point["rho"] == pytest.approx(ratio, rel=1e-4)
    assert "principal component" in compared.plot_keys("pca").axes.get_xlabel()
    with pytest.raises(UserError, match="not measured"):
        compared.plot_directions("tsne")  # three points make no t-SNE


def test_edits_of_one_subject_lie_in_one_place(tiny_model, moment):
    edits = [
        {"request": {"subject": "Apple", "prompt": "{} is"}, "collapsed": {"rome": False}}
    ] * 12  # fmt: skip
    found = key_map.place(tiny_model("gpt2"), 1, PREFIXES, moment, edits)
    assert found["drawn"] == found["of"] == 12
    assert all(point["tsne"] is None for point in found["directions"]["points"])
    assert key_map.place(tiny_model("gpt2"), 1, PREFIXES, moment, edits[:1]) is None


def test_of_large_groups_evenly_spaced_edits_are_drawn():
    edits = [{"collapsed": {"rome": i % 3 == 0}} for i in range(900)] + [{"error": "no"}]
    chosen = key_map._sample(edits)
    broken = [i for i in chosen if i % 3 == 0]
    assert len(broken) == key_map.MOST_OF_A_GROUP == len(chosen) - len(broken)
    just_over = [{"collapsed": {"rome": False}}] * (key_map.MOST_OF_A_GROUP + 1)
    assert len(key_map._sample(just_over)) == key_map.MOST_OF_A_GROUP
    assert chosen == sorted(set(chosen)) and 900 not in chosen


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_interrupted_anywhere_it_ends_the_same(tmp_path, bench, compared, stop):
    journal = str(tmp_path / "journal")

    def interrupt(done):
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.many(Edits(tuple(CASES)), journal=journal, progress=interrupt)
    assert len((tmp_path / "journal").read_bytes().splitlines()) == 2 + stop
    again = bench.many(Edits(tuple(CASES)), journal=journal)
    assert undisturbed(again.document) == undisturbed(compared.document)


def test_a_finished_journal_is_not_measured_again(tmp_path, bench, monkeypatch):
    journal = str(tmp_path / "journal")
    few = Edits(tuple(CASES[:2]))
    first = bench.many(few, journal=journal)
    monkeypatch.setattr(bench.bench, "measure", None)
    monkeypatch.setattr(bench.bench, "target_values", None)
    assert bench.many(few, journal=journal).document == first.document
    with pytest.raises(UserError, match="edits"):
        bench.many(Edits(tuple(CASES[:1])), journal=journal)


def test_library_calls(tiny_model, moment):
    options = {"model": tiny_model("gpt2"), "layer": 1, "second_moment": moment, "texts": TEXTS}
    short = options | {"prefixes": PREFIXES, "hyperparameters": SETTINGS}
    found = verify("Apple", "{} tastes like", target_new="Danielle", **short)
    assert found.arms["rome"]["efficacy"]["criterion"] == "greedy decoding gives it"
    assert found.arms["rome"]["generalisation"] is None
    listed = verify_list([EditCase(request("Apple", "{} is", target_new="you"))], **short)
    assert listed.summary["n"] == 1
    with pytest.raises(UserError, match="target-new"):
        verify("Apple", "{} tastes", **short)
    with pytest.raises(UserError, match="above 1"):
        verify("Apple", "{} is", target_new="you", collapse_ratio=1.0, **short)
    identity = verify("Apple", "{} is", target_new="you", **(short | {"second_moment": "identity"}))
    assert identity.arms["rome"]["damage"]["predicted"] is None
    assert "identity" in identity.arms["rome"]["damage"]["not_checked"]


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_other_architectures(tiny_model, name):
    model = tiny_model(name)
    before = {key: value.clone() for key, value in model.state_dict.items()}
    of_model = estimate(model, 1, shuffled_corpus(), row_length=16)
    found = run_of(model, of_model).one(CASES[0])
    for arm in found.arms.values():
        assert arm["perplexity"]["ratio"] is not None
        assert arm["damage"]["predicted"] > 0
        assert arm["damage"]["relative"] > 0
        # After a norm the change over the texts is not a multiple of the MLP output's.
        assert (arm["damage"]["measured_relative"] is None) == (name == "gemma2")
    assert found.document["model"]["bos_prepended"]
    assert all(torch.equal(model.state_dict[key], before[key]) for key in before)
