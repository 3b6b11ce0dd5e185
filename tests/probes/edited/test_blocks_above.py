"""The plain model and the blocks above the edited one, against untouched Hugging Face models."""

from __future__ import annotations

import pytest
import torch
import transformers

from probes.edited.blocks_above import UpperBlocks
from probes.forward import above
from probes.forward.batches import padded
from probes.forward.unhooked import plain
from probes.model.load import load
from tests import tiny

ROWS = [[5, 301, 9, 44, 260, 31, 8], [17, 600, 2, 90, 11], [12, 13, 14, 15, 16, 18, 19, 20, 21]]
AT = (torch.tensor([0, 1, 2, 2]), torch.tensor([6, 4, 8, 3]))


def reference_logits(directory, ids, mask, *, hook_layer=None, change=None):
    """Logits of an untouched model, ``change`` added to one block's projection by a plain hook."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
    handle = None
    if change is not None:
        handle = projection(model, hook_layer).register_forward_hook(lambda m, i, out: out + change)
    with torch.no_grad():
        logits = model(ids, attention_mask=mask).logits
    if handle:
        handle.remove()
    return logits


def projection(model, layer):
    """The MLP's output projection, found by its name in each architecture."""
    names = ("c_proj", "fc_out", "dense_4h_to_h", "down_proj")
    found = [
        module
        for name, module in model.named_modules()
        if f".{layer}.mlp." in name and name.endswith(names)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_plain_model_equals_hugging_face_and_shares_weights(tiny_dir, tiny_model, name):
    model = tiny_model(name)
    whole = plain(model)
    upper = UpperBlocks(model, 1)
    ids, mask = padded(ROWS, upper.device)
    with torch.no_grad():
        ours = whole.model(ids, attention_mask=mask).logits
    theirs = reference_logits(tiny_dir(name), ids, mask)
    torch.testing.assert_close(ours[mask.bool()], theirs[mask.bool()], atol=1e-5, rtol=1e-5)
    assert plain(model) is whole
    weight = model.bridge.blocks[2].mlp.W_out
    assert whole.output_projection(2).weight.data_ptr() == weight.data_ptr()
    state = whole.model.state_dict()
    assert state[whole.weight_name(2)].data_ptr() == weight.data_ptr()


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_upper_blocks_continue_from_an_edited_output(tiny_dir, tiny_model, name, layer):
    upper = UpperBlocks(tiny_model(name), layer)
    recording = upper.record(ROWS)
    torch.manual_seed(layer)
    change = torch.randn_like(recording.output)
    residual = upper.edited_residual(recording.residual, recording.norm_input, change)
    with torch.no_grad():
        ours = upper.head(upper.final(residual, recording.ids, recording.mask, AT))
        unedited = upper.head(upper.final(recording.residual, recording.ids, recording.mask, AT))
        from_final = upper.head(recording.final[AT])
    theirs = reference_logits(
        tiny_dir(name), recording.ids, recording.mask, hook_layer=layer, change=change
    )
    torch.testing.assert_close(ours, theirs[AT], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(unedited, from_final, atol=2e-5, rtol=1e-5)
    assert (ours - unedited).abs().max() > 1e-2  # the positive control: the change arrives


def test_many_blocks_that_give_tuples_can_be_below(tmp_path, monkeypatch):
    # The model takes the first of what each block gives; five blocks are GPT-J's published five.
    def deep():
        config = tiny.ARCHITECTURES["gptj"]()
        config.n_layer = 6
        return config

    monkeypatch.setitem(tiny.SUPPORTED, "gptj-deep", deep)
    model = load(tiny.save("gptj-deep", tmp_path / "deep"))
    upper = UpperBlocks(model, 5)
    recording = upper.record(ROWS)
    with torch.no_grad():
        ours = upper.head(upper.final(recording.residual, recording.ids, recording.mask, AT))
        expected = upper.head(recording.final[AT])
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", tiny.ARCHITECTURES)
def test_constant_past_equals_the_whole_text(tiny_model, name):
    upper = UpperBlocks(tiny_model(name), 1)
    start, width = 3, 2
    recording = upper.record(ROWS, before=torch.full((len(ROWS),), start))
    past = {i: (k[:, :, :start], v[:, :, :start]) for i, (k, v) in recording.past.items()}
    assert sorted(past) == [2, 3]
    low = torch.finfo(torch.float32).min
    mask = torch.zeros(len(ROWS), 1, width, start + width)
    mask[:, :, 0, -1] = low
    at = (torch.tensor([0, 1, 2]), torch.tensor([1, 0, 1]))
    with torch.no_grad():
        whole = upper.final(
            recording.residual, recording.ids, recording.mask, (at[0], at[1] + start)
        )
        part = upper.final(
            recording.residual[:, start : start + width],
            recording.ids[:, start : start + width],
            mask,
            at,
            position_ids=torch.arange(start, start + width).expand(len(ROWS), -1),
            past=past,
        )
    torch.testing.assert_close(part, whole, atol=2e-5, rtol=1e-5)


def test_recording_leaves_no_hooks(tiny_model):
    upper = UpperBlocks(tiny_model("gpt2"), 1)
    upper.record(ROWS)
    hooks = [
        hook
        for module in upper.plain.model.modules()
        for hook in [*module._forward_hooks, *module._forward_pre_hooks]
    ]
    assert hooks == []


def test_logits_come_in_pieces_and_in_order(tiny_model, monkeypatch):
    upper = UpperBlocks(tiny_model("gpt2"), 1)
    final = torch.randn(11, upper.model.config.d_model)
    monkeypatch.setattr(above, "LOGITS_AT_ONCE", 5 * upper.vocabulary)
    monkeypatch.setattr(above, "LOGITS_TOGETHER", 2 * upper.vocabulary)
    with torch.no_grad():
        pieces = [(rows, logits.clone()) for rows, logits in upper.heads(final)]
        complete = upper.head(final)
    assert [len(logits) for _, logits in pieces] == [2, 2, 1, 2, 2, 1, 1]
    assert [i for rows, _ in pieces for i in range(11)[rows]] == list(range(11))
    torch.testing.assert_close(torch.cat([logits for _, logits in pieces]), complete)
