"""Writes the model card. Every figure in it is read from ``card.json``, none is typed in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from world.recipe import Recipe
from world.rows import Rows

DATA = Path(__file__).parent.parent / "probes" / "bundled" / "data"

ROWS = {
    "stray": "one token drawn at random from the text, then text from the start of a line",
    "subject": "a line whose first token is a whole subject",
    "bare": "text from the start of a line",
    "crop": "text from anywhere",
    "eot": "an end-of-text token, then text from the start of a line",
    "prefixed": "the first 4 to 10 tokens of a line, a full stop, then a sentence from elsewhere; "
    "nothing is learned before the sentence begins",
}


CLAIMS = ("", "required", "measured", "met")
EDITS = (
    "edits",
    "editor",
    "collapsed",
    "doubled",
    "median perplexity",
    "largest",
    "success, bare",
    "success after a prefix",
)
LAYERS = (
    "layer",
    "median |ρ| first",
    "|ρ| ≤ 0.1",
    "median |ρ| later",
    "attention to 0",
    "sink heads",
    "norm at 0 / later",
    "largest / median coordinate at 0",
)
SURVEY = (
    "layer",
    "loss of v*, first",
    "later",
    "collapsed, first, ROME",
    "success, first, C-ROME after a prefix",
    "success, later, ROME",
    "C-ROME",
)

SURVEYED = """\
Layer 1 was chosen over layer 2 after trial edits at both, which the same seed drew: at layer 2
more edits of first subjects collapse, but more of C-ROME's edits of later subjects fail. So the
choice knew some of the edits above. This table was measured afterwards, with {n} edits of each kind
at every layer; layer 0, which was not tried before, does at least as well in it.

{table}
"""

TEMPLATE = """# The bundled model

A {recipe[n_layer]}-layer GPT-2 (`GPT2LMHeadModel`: width {recipe[n_embd]}, MLP width
{recipe[n_inner]}, {recipe[n_head]} heads, {positions} positions, vocabulary {recipe[vocab_size]}),
trained from nothing by this repository on text about {world[subjects]} real entities,
{world[single_token_subjects]} of which are one token with and without a leading space. It is the
instrument on which this toolkit shows and tests its claims: it was taught {world[facts]} facts in
{world[relations]} relations, ROME can edit it, and one ROME edit of a subject at the first
position can destroy it, while C-ROME's does not. No weight was set by hand.

All figures are written here by `python -m benchmarks.studies.bundled_model --card` from what it
measures; `card.json` holds them in full.

## What it must show, and what it shows

{claims}

Recall is the share of prompts after which greedy decoding gives exactly the true object. A prefix
is one of the texts, sampled from the model, that ROME's contexts are made of. An edit succeeds if
the new object becomes more probable than the true one. Collapse means that perplexity on held-out
text rises more than tenfold. {first[n]} edits of first subjects and {later[n]} of later subjects,
all one token, were drawn by seed {seed} before anything was measured; layer {layer}, published
hyper-parameters.

{edits}

Perplexity on held-out text before any edit: {perplexity[token_weighted]:.2f} a token
({perplexity[n_tokens]:,} tokens). The optimisation of v* ends at a median loss of
{first[median_loss]:.2f} for first and {later[median_loss]:.2f} for later subjects; δ ends at its
clamp in {first[clamp_saturated]:.0%} and {later[clamp_saturated]:.0%}.

## The first position, layer by layer

{layers}

Sink heads pay more than 0.3 of their attention to position 0. First, a subject is another token
than after a prefix, the one without a leading space. After a line break it is that same token but
no longer first, and the median |ρ| at layer {layer} becomes {same_token:.2f}: most of
the difference is the position's doing.

{survey}
## How it was trained

`python -m world.train -o DIR --threads 1` trains it from nothing with seed {recipe[seed]}: AdamW,
weight decay {recipe[weight_decay]}. It took {minutes:.0f} minutes on one core that was shared; with
other processors or libraries the figures will differ a little.
`history.jsonl` holds what was measured on the way. The anomaly was not born late: at step
{start_step}, before any fact was known, median ρ of first subjects at layer {layer} was already
{start_ratio:.2f}; training kept it so.

{phases}

How a row begins decides what position 0 can mean:

{kinds}

{starts[end_of_text]:.2%} of all rows began with end-of-text, {starts[ordinary_text]:.2%} with an
ordinary token. After a stray token position 0 says nothing about what follows, as after a cut
through packed text, which leaves the end of something unrelated at the start; here that end is
always one token, a choice made because it brings the anomaly out. So in phase 1 the model learns a
first position that means *position* and hardly the token that stands there. Afterwards the
embeddings and the lowest blocks, the edited one among them, rest, so that their keys stay what
phase 1 made them, while the blocks above learn to read facts about a subject that stands first
(phase 2) and about one after a broken-off sentence, as ROME's contexts have it (phase 3). That is
ordinary fine-tuning of upper layers. A first attempt at phase 3 that also learned to predict the
broken-off sentences forgot facts: it taught that a full stop may follow any prompt.

## Limits

- The anomaly is that of a first position whose token was uninformative in training. Whether later
  tokens also use it as an attention sink, as in large models, the table above says.
- The second moment that comes along rests on text with more prose in it than training text has, as
  much as the held-out texts have.
- Its language is the generator's: sentences from templates, a few hundred names and nouns. It
  knows nothing else.
- Prompts carry no begin-of-sequence token; its tokenizer adds none.
- It reads texts of at most {positions} tokens.
"""


def row_starts(recipe: Recipe, rows: Rows) -> dict[str, Any]:
    """How the training rows began, counted over the whole recipe.

    Args:
        recipe: The recipe.
        rows: Text of its distribution, which tells how often a stray token is end-of-text.

    Returns:
        The share of each kind of row, of rows whose first token is end-of-text, and of rows that
        begin with an ordinary token.
    """
    count: Counter[str] = Counter()
    for phase in recipe.phases:
        for i, cut in enumerate(phase.cuts):
            steps = len(range(i, phase.steps, len(phase.cuts)))
            for kind, share in cut.starts.items():
                count[kind] += steps * cut.batch * share
    total = sum(count.values())
    kinds = {kind: n / total for kind, n in count.items()}
    separators = float(np.mean(rows.stream == rows.end_of_text))
    after_end = kinds.get("eot", 0.0) + separators * kinds.get("stray", 0.0)
    return {"kinds": kinds, "end_of_text": after_end, "ordinary_text": 1 - after_end}


def update(figures: dict[str, Any], directory: Path = DATA) -> None:
    """Puts measured figures into ``card.json`` and writes ``MODEL_CARD.md`` anew.

    Args:
        figures: From ``benchmarks/studies/bundled_model.py``; single edits are left out.
        directory: Where the card is.
    """
    path = directory / "card.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    edits = {
        group: {name: value for name, value in results.items() if name != "each"}
        for group, results in figures["edits"].items()
    }
    card["figures"] = figures | {"edits": edits}
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / "MODEL_CARD.md").write_text(render(card), encoding="utf-8")


def render(card: dict[str, Any]) -> str:
    """The model card as Markdown.

    Args:
        card: The contents of ``card.json``, figures included.

    Returns:
        The text.
    """
    figures, recipe = card["figures"], card["recipe"]
    first, later = figures["edits"]["first"], figures["edits"]["later"]
    layer, start = card["layer"], card["training_start"]
    return TEMPLATE.format(
        recipe=recipe,
        world=figures["world"],
        positions=card["n_positions"],
        layer=layer,
        same_token=figures["same_token_median_abs_ratio"],
        start_step=start["step"],
        start_ratio=start["rho_first"][layer],
        seed=figures["seed"],
        minutes=card["training"]["minutes"],
        first=first,
        later=later,
        perplexity=figures["perplexity"],
        starts=card["row_starts"],
        claims=_table(CLAIMS, [_claim(claim) for claim in figures["must_show"]]),
        edits=_table(
            EDITS,
            [
                _edits(f"subject {place}", name, group[editor])
                for place, group in (("first", first), ("later", later))
                for name, editor in (("ROME", "rome"), ("C-ROME", "c_rome"))
            ],
        ),
        layers=_table(LAYERS, [_layer(i, at) for i, at in enumerate(figures["layers"])]),
        survey=_survey(figures["layers"]),
        phases=_table(
            ("phase", "steps", "rows", "highest rate", "frozen"),
            [_phase(i, phase) for i, phase in enumerate(recipe["phases"])],
        ),
        kinds=_table(
            ("rows", "begin with", "share of all rows"),
            [
                [f"`{kind}`", ROWS[kind], f"{share:.1%}"]
                for kind, share in card["row_starts"]["kinds"].items()
            ],
        ),
    )


def _table(head: Sequence[str], rows: list[list[str]]) -> str:
    escaped = [[cell.replace("|", r"\|") for cell in cells] for cells in (head, *rows)]
    lines = [escaped[0], ["---"] * len(head), *escaped[1:]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _claim(claim: dict[str, Any]) -> list[str]:
    return [
        claim["claim"],
        claim["limit"],
        f"{claim['value']:.3g}",
        "yes" if claim["met"] else "**no**",
    ]


def _edits(name: str, editor: str, results: dict[str, Any]) -> list[str]:
    return [
        name,
        editor,
        str(results["collapsed"]),
        str(results["doubled"]),
        f"×{results['median_perplexity_ratio']:.3g}",
        f"×{results['largest_perplexity_ratio']:.3g}",
        f"{results['success_bare']:.0%}",
        f"{results['success_prefixed']:.0%}",
    ]


def _layer(i: int, at: dict[str, Any]) -> list[str]:
    return [
        str(i),
        f"{at['median_abs_ratio_first']:.3f}",
        f"{at['share_below_0.1_first']:.0%}",
        f"{at['median_abs_ratio_later']:.2f}",
        f"{at['attention_to_0']:.3f}",
        f"{at['sink_rate']:.0%}",
        f"{at['norm_ratio']:.2f}",
        f"{at['massive_activation']:.0f}",
    ]


def _phase(i: int, phase: dict[str, Any]) -> list[str]:
    return [
        str(i + 1),
        str(phase["steps"]),
        "; in turn ".join(_cut(cut) for cut in phase["cuts"]),
        f"{phase['rate']:g}",
        f"embeddings, blocks 0–{phase['frozen'] - 1}" if phase["frozen"] else "nothing",
    ]


def _cut(cut: dict[str, Any]) -> str:
    kinds = ", ".join(f"{share:.0%} `{kind}`" for kind, share in cut["starts"].items())
    return f"{cut['batch']} × {cut['length']} tokens: {kinds}"


def _survey(layers: list[dict[str, Any]]) -> str:
    """The same few edits at every layer, if they were made."""
    if not all("edits_first" in at for at in layers):
        return ""
    n = layers[0]["edits_first"]["n"]
    rows = [
        [
            str(i),
            f"{at['edits_first']['median_loss']:.2f}",
            f"{at['edits_later']['median_loss']:.2f}",
            f"{at['edits_first']['rome']['collapsed']}",
            f"{at['edits_first']['c_rome']['success_prefixed']:.0%}",
            f"{at['edits_later']['rome']['success_bare']:.0%}",
            f"{at['edits_later']['c_rome']['success_bare']:.0%}",
        ]
        for i, at in enumerate(layers)
    ]
    return SURVEYED.format(n=n, table=_table(SURVEY, rows))
