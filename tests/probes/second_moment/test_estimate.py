"""The second moment: streamed equals direct, files are refused or restored, C fits its model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from probes.forward import activations
from probes.forward.batches import batches
from probes.keys.one_edit import capture
from probes.model.load import load
from probes.model.loaded import LoadedModel
from probes.request.lookup import Lookup
from probes.second_moment import choose, corpus_pass, estimate, stored
from probes.second_moment.moment import SecondMoment, of_moment
from probes.second_moment.sample import Sample
from probes.second_moment.sums import gram
from probes.text import corpus
from probes.text.corpus import Corpus
from rome_diagnosis.errors import UserError
from tests import oracle, tiny

TEXTS = [
    text + "\n"
    for text in (
        *tiny.TRAINING_TEXT[:4],
        "I think the river is in Seattle.",
        "Apple, Apple and the weather; Paris.",
    )
    * 12
]


@pytest.fixture(scope="module")
def text() -> Corpus:
    return Corpus.of("test text", TEXTS)


@pytest.fixture(scope="module")
def estimated(tiny_model: Callable[[str], LoadedModel], text: Corpus) -> SecondMoment:
    return estimate.estimate(tiny_model("gpt2"), 1, text, row_length=32)


def test_rows_are_full_begin_with_a_document_and_carry_one_bos(
    tiny_model: Callable[[str], LoadedModel], text: Corpus
) -> None:
    for name in ("gpt2", "llama"):
        model = tiny_model(name)
        rows = list(corpus.rows(model, text, length=32))
        starts = {tuple(model.tokens(document).ids[:3]) for document in text.documents}
        assert rows
        for row in rows:
            assert len(row) == 32
            assert tuple(row[:3]) in starts
            assert row.count(model.tokenizer.bos_token_id) == int(model.bos)
        (short,) = corpus.rows(model, Corpus.of("short", ["Paris lies"]), length=32)
        assert short == model.tokens("Paris lies").ids


def test_streamed_moment_equals_one_text_at_a_time_with_plain_hooks(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel],
    tiny_dir: Callable[[str], Path], text: Corpus,
) -> None:  # fmt: skip
    from transformers import AutoModelForCausalLM

    model = tiny_model("gpt2")
    plain = AutoModelForCausalLM.from_pretrained(tiny_dir("gpt2"))
    keys: list[torch.Tensor] = []
    norms: list[torch.Tensor] = []
    handle = oracle.output_projection(plain, 1).register_forward_pre_hook(
        lambda module, inputs: keys.append(inputs[0][0].double())
    )
    for row in corpus.rows(model, text, length=32):
        with torch.no_grad():
            out = plain(torch.tensor([row]), output_hidden_states=True)
        norms.append(out.hidden_states[2][0, 1:].double().norm(dim=-1))
    handle.remove()
    every = torch.cat(keys)
    expected = every.T @ every / len(every)
    assert torch.allclose(estimated.moment, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))
    made = estimated.provenance
    assert made.n_tokens == len(every)
    assert made.position0_share == len(keys) / len(every)
    median = float(torch.cat(norms).median())
    assert estimated.background.residual_norm == pytest.approx(median, rel=1e-5)
    firsts = torch.stack([key[0] for key in keys]).float()
    for sampled in estimated.background.first_keys[:5]:
        assert float((firsts - sampled).abs().max(dim=-1).values.min()) < 1e-5


def test_first_keys_are_bounded_by_the_share_of_their_position(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel], text: Corpus
) -> None:
    # Were position 0's keys one vector with share p of the tokens, its square length in the C⁻¹
    # metric could not exceed 1/p; the mean over any population of that share cannot either.
    sums = corpus_pass.run(corpus_pass.Pass(tiny_model("gpt2"), [1], text, 32))[1]
    white = estimated.whiten(sums.first.parts["keys"].double())
    mean = float(white.mean(0).square().sum())
    assert 0 < mean <= 1 / estimated.provenance.position0_share * (1 + 1e-9)


def test_few_rows_leave_first_tokens_of_many_documents(
    estimated: SecondMoment, tiny_model: Callable[[str], LoadedModel], text: Corpus
) -> None:
    model = tiny_model("gpt2")
    rows = list(corpus.rows(model, text, length=32))
    first = estimated.background.first_keys
    assert len(rows) < len(text.documents) == len(first) == len(estimated.background.first_norms)
    lookups = [Lookup("", model.tokens(text).ids[:1], 0, "") for text in text.documents]
    expected = capture(model, lookups, 1).keys
    nearest = torch.cdist(expected, first.double()).min(1).values
    assert float(nearest.max()) < 1e-4 * float(expected.norm(dim=1).min())


def test_batching_and_stopping_do_not_change_what_is_counted(
    tiny_model: Callable[[str], LoadedModel], text: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("gpt2")
    whole = estimate.estimate(model, 1, text, row_length=32)
    monkeypatch.setattr(corpus_pass, "BATCH_TOKENS", 64)
    small = estimate.estimate(model, 1, text, row_length=32)
    assert torch.allclose(whole.moment, small.moment, rtol=1e-5, atol=1e-9)
    part = estimate.estimate(model, 1, text, row_length=32, max_tokens=100)
    assert part.provenance.n_tokens == 128  # the row that reaches the limit is counted whole
    seen: list[int] = []
    estimate.estimate(model, 1, text, row_length=32, progress=seen.append)
    assert sum(seen) == whole.provenance.n_tokens


def test_a_saved_moment_comes_back_bit_for_bit(estimated: SecondMoment, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    stored.save(estimated, path)
    back = stored.load(path)
    assert torch.equal(back.moment, estimated.moment)
    assert back.provenance == estimated.provenance
    assert back.eigenvalues == estimated.eigenvalues
    assert torch.equal(back.background.later_keys, estimated.background.later_keys)
    stored.save(back, tmp_path / "again.safetensors")
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_damaged_and_foreign_files_are_refused(estimated: SecondMoment, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    stored.save(estimated, path)
    good = path.read_bytes()
    tensors = load_file(path)
    broken = {
        "empty": b"",
        "short": good[: len(good) // 2],
        "text": b"not a tensor file at all",
        "flipped header": good[:20] + b"\xff" + good[21:],
    }
    for name, content in broken.items():
        bad = tmp_path / f"{name}.safetensors"
        bad.write_bytes(content)
        with pytest.raises(UserError, match=r"not a second moment|damaged") as refused:
            stored.load(bad)
        assert "\n" not in str(refused.value)
    save_file(tensors, tmp_path / "no header.safetensors")
    with pytest.raises(UserError, match="not a second moment"):
        stored.load(tmp_path / "no header.safetensors")
    tensors["moment"][0, 0] = float("nan")
    header = {"second_moment": json.dumps({"schema": "something else"})}
    save_file(tensors, tmp_path / "other.safetensors", metadata=header)
    with pytest.raises(UserError, match="something else"):
        stored.load(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="there is no second moment file"):
        stored.load(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="cannot write"):
        stored.save(estimated, Path("/proc/nowhere/c.safetensors"))


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
    with pytest.raises(UserError, match="other weights"):
        choose.for_model(other, 1, path)
    with pytest.raises(UserError, match="begin-of-sequence"):
        choose.for_model(load(tiny_dir("gpt2"), bos=True), 1, path)


def test_an_edited_model_has_another_fingerprint(
    tiny_dir: Callable[[str], Path], tiny_model: Callable[[str], LoadedModel]
) -> None:
    model = load(tiny_dir("gpt2"))
    assert model.fingerprint == tiny_model("gpt2").fingerprint
    from probes.model.fingerprint import fingerprint

    with torch.no_grad():
        u, r = torch.randn(128), torch.randn(32)
        model.bridge.blocks[1].mlp.W_out.add_(1e-3 * torch.outer(u, r))
    assert fingerprint(model.state_dict) != model.fingerprint


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


def test_the_sample_is_uniform() -> None:
    counts = torch.zeros(20)
    for seed in range(400):
        sample = Sample(5, torch.Generator().manual_seed(seed), {"row": (1,)})
        for part in torch.arange(20.0).reshape(4, 5, 1):
            sample.add({"row": part})
        assert len(sample) == 5
        counts[sample.parts["row"][:, 0].long()] += 1
    # Each of 20 rows is kept with chance 1/4: 100 ± 4 standard deviations of a binomial.
    assert counts.min() > 65
    assert counts.max() < 135


def test_a_sample_keeps_the_smallest_lots_in_their_order() -> None:
    # Fed in uneven parts, of which only some rows count: what one sort of all lots would keep.
    rows = torch.arange(900.0)[:, None]
    sample = Sample(50, torch.Generator().manual_seed(3), {"row": (1,)})
    generator = torch.Generator().manual_seed(3)
    lots, counted = [], []
    for start in range(0, 900, 90):
        among = torch.arange(start, start + 90)[start % 4 :: 2]
        sample.add({"row": rows}, among)
        lots.append(torch.rand(len(among), dtype=torch.float64, generator=generator))
        counted.append(among)
    smallest = torch.cat(lots).argsort()[:50].sort().values
    assert torch.equal(sample.parts["row"][:, 0].long(), torch.cat(counted)[smallest])
    assert torch.equal(sample.lots, torch.cat(lots)[smallest])


@pytest.mark.parametrize("d", [1, 5, 8, 12, 130])
def test_a_gram_matrix_is_the_product(d: int) -> None:
    x = torch.randn(40, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
    assert torch.allclose(gram(x), x.T @ x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_activations_are_the_bridge_s(name: str, tiny_model: Callable[[str], LoadedModel]) -> None:
    model = tiny_model(name)
    texts = [model.tokens(text).ids for text in tiny.TRAINING_TEXT[:3]]
    read = activations.reader(model, [1, 2])
    # Rows of one length go without a mask, those of several lengths with one.
    for rows in ([text[:9] for text in texts], texts):
        (batch,) = batches(rows, model.device)
        found, expected = read(batch), activations._of_bridge(model, [1, 2], batch)
        real = batch.mask.bool()
        assert bool(real.all()) == (rows is not texts)
        for layer in (1, 2):
            for site in activations.SITES:
                apart = (found[layer][site] - expected[layer][site])[real].norm()
                assert float(apart / expected[layer][site][real].norm()) <= 1e-5


def test_impossible_moments_are_refused() -> None:
    for bad in (torch.zeros(3, 3), torch.full((3, 3), float("nan")), torch.zeros(3, 2)):
        with pytest.raises(ValueError, match="second moment"):
            of_moment(bad.double(), source="test")


def test_identity_is_the_plain_inner_product() -> None:
    x, y = torch.randn(2, 6, dtype=torch.float64)
    identity = SecondMoment.identity(6)
    assert identity.inner(x, y) == pytest.approx(float(x @ y))
    assert torch.equal(identity.solve(x), x)
    assert identity.ridge == 0
    scaled = replace(identity, moment=4 * torch.eye(6, dtype=torch.float64), eigenvalues=(4, 4))
    assert scaled.inner(x, y) == pytest.approx(float(x @ y) / 4)
