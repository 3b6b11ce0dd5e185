"""What the first-token probes show, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.first_token.patching import Patching

# Interventions that a reader wants to know of first.
INTERVENTIONS = (
    ("sees the prefix", "letting it attend to the prefix"),
    ("later position", "giving it a later position"),
    ("spaced form", "giving it the spaced form"),
    ("neutral token", "putting one neutral token before it"),
)


def where(patching: Patching) -> str:
    """At which block ρ recovers, as a sentence."""
    entering = [
        patch
        for patch in patching.patches
        if patch.site == "resid_pre" and patch.direction == "into_bare"
    ]
    way = ", ".join(f"{patch.recovered:z.0%} at block {patch.block}" for patch in entering)
    attention = [
        patch
        for patch in patching.patches
        if patch.site == "attention_up_to" and patch.direction == "into_bare"
    ][-1]
    return (
        f"The residual stream of the prefixed run, written into the bare one where it enters a "
        f"block, recovers {way} of the gap in ρ; all attention outputs up to block "
        f"{attention.block} without the embedding recover {attention.recovered:z.0%} of it."
    )


def findings(document: Mapping[str, Any], layer: int) -> list[dict[str, str]]:
    """The findings of a document, each with its id."""
    block = next(entry for entry in document["layers"] if entry["layer"] == layer)
    first, prefixed = block["cells"]["first_bare"], block["cells"]["first_prefixed"]
    lines = {
        "spread": (
            f"At block {layer} bare first-token keys vary by {first['spread']:.3f} of their mean "
            f"square, the same subjects' prefixed keys by {prefixed['spread']:.3f}; they span "
            f"{first['effective_rank']:.1f} and {prefixed['effective_rank']:.1f} directions."
        )
    }
    probe = next(
        (pair["probe"] for pair in block["pairs"] if pair["cells"] == ("first_bare", "later_bare")),
        None,
    )
    if probe:
        lines["probe"] = (
            f"A logistic probe tells first from later keys of subjects it has not seen with AUC "
            f"{probe['auc']:.3f}; with shuffled labels {probe['null_mean']:.3f}, at most "
            f"{probe['null_largest']:.3f}."
        )
    effects = {effect["name"]: effect for effect in document["interventions"]["effects"]}
    phrases = []
    for name, words in INTERVENTIONS:
        effect = effects[name]
        if effect["reason"] is not None:
            phrases.append(f"{words} does not apply ({effect['reason']})")
        elif effect["recovered"] is not None:
            phrases.append(f"{words} recovers {effect['recovered']:z.0%} of the gap in ρ")
    lines["interventions"] = f"For the bare first token: {'; '.join(phrases)}."
    lines["attribution"] = document["attribution"]["words"]
    lines["patching"] = document["patching"]["words"]
    if document["encoder"]:
        control = document["encoder"]
        lines["encoder"] = (
            f"In the encoder {control['name']}, block {control['layer']}, ρ of {control['n']} "
            f"subjects that come first is {control['rho_unprefixed']['mean']:.3f} "
            f"({control['below_limit']:.0%} below {document['rho']['collapse_limit']}); here it is "
            f"{document['rho']['unprefixed']['mean']:.3f} ({document['rho']['below_limit']:.0%})."
        )
    return [{"id": name, "message": line} for name, line in lines.items()]
