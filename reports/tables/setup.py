"""What a result was measured with, in sentences that text, Markdown and pages share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.numbers import counted, number, percent

Document = Mapping[str, Any]


def measured_with(document: Document) -> list[str]:
    """Model, second moment, contexts and versions, as far as a document holds them.

    Args:
        document: Any saved result.

    Returns:
        Sentences.
    """
    parts = [_model, _moment, _contexts, _damage, _texts, _versions]
    return [sentence for part in parts if (sentence := part(document))]


def _model(document: Document) -> str | None:
    model = document.get("model")
    if not isinstance(model, Mapping):
        return None
    bos = "a" if model["bos_prepended"] else "no"
    weights = f" {model['weights']}" if model.get("weights") else ""
    passes = f", passes in {model['autocast']}" if "autocast" in model else ""
    site = f", block {document['site']['layer']}" if "site" in document else ""
    return (
        f"{model['name']} ({model['architecture']}, {counted(model['n_layers'], 'block')}, "
        f"{model['dtype']}{weights}{passes}, {bos} begin-of-sequence token before the text){site}."
    )


def _moment(document: Document) -> str | None:
    moment = document.get("second_moment")
    if not moment:
        return None
    if moment["n_tokens"] is None:
        return "C is the identity: without a corpus moment damage has no closed form."
    share = moment.get("position0_share")
    first = "" if share is None else f" ({percent(share)} of the tokens first)"
    floor = moment.get("noise_floor")
    rounding = "" if floor is None else f", rounding of keys {number(floor)} of their length"
    keys = f", summed of keys in {moment['keys_in']}" if "keys_in" in moment else ""
    return (
        f"C over {counted(moment['n_tokens'], 'token')} of {moment['corpus']} "
        f"({moment['source']}), rows of {number(moment['row_length'])}{first}, "
        f"condition number {number(moment['condition_number'])}, ridge {number(moment['ridge'])}"
        f"{rounding}{keys}."
    )


def _contexts(document: Document) -> str | None:
    contexts = document.get("contexts")
    if not contexts:
        return None
    seed = contexts.get("seed")
    drawn = f", sampled with seed {seed}" if contexts["sampled"] and seed is not None else ""
    return f"{counted(contexts['n'], 'prefixed context')}{drawn}."


def _damage(document: Document) -> str | None:
    damage = document.get("damage", {})
    if not damage.get("contribution"):
        return None
    how = damage.get("checked") or f"not checked: {damage.get('not_checked')}"
    return f"Damage: {how}; the MLP's output is {damage['contribution']}."


def _texts(document: Document) -> str | None:
    texts = document.get("texts")
    if not texts:
        return None
    size = counted(texts["n_texts"], "text")
    if texts.get("n_tokens") is not None:
        size = f"{counted(texts['n_tokens'], 'token')} of {size}"
    elif not texts.get("forced"):
        size = f"as many of {size} as settle the outcome"
    measured = f"Perplexity, token-weighted, over {size} ({texts['source']})"
    facts = document.get("known_facts")
    if not facts:
        return f"{measured}."
    source = f" ({facts['source']})" if facts.get("source") else ""
    known = counted(facts["n"], "fact")
    return f"{measured}; recall of {known}{source} that the unedited model gives."


def _versions(document: Document) -> str:
    versions = document.get("versions", {})
    created = f"; {document['created']}" if "created" in document else ""
    names = [name for name in ("torch", "transformers", "transformer-lens") if name in versions]
    programs = [
        ("rome-diagnosis", document["version"]),
        *((name, versions[name]) for name in names),
    ]
    return f"{', '.join(f'{name} {version}' for name, version in programs)}{created}."


def notes(document: Document) -> list[str]:
    """What was supplied, changed or left out before anything was measured.

    Args:
        document: Any saved result.

    Returns:
        Phrases.
    """
    holders = (document, document.get("request") or {}, document.get("dataset") or {})
    return [str(note) for holder in holders for note in holder.get("notes") or ()]
