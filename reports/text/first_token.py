"""First-token probes as text in a terminal, from the saved document alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def show(document: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints a ``probes.first_token/1`` document.

    Args:
        document: The saved result.
        console: Where to; standard output by default.
    """
    (console or Console(highlight=False)).print(render(document))


def render(document: Mapping[str, Any]) -> RenderableType:
    """Lays a ``probes.first_token/1`` document out.

    Args:
        document: The saved result.

    Returns:
        Something ``rich`` prints.
    """
    rho, subjects = document["rho"], document["subjects"]
    headline = Text.assemble(
        (f"{subjects['n']} subjects", "bold"),
        f" ({subjects['source']}, {len(subjects['skipped'])} skipped) at block "
        f"{document['site']['layer']} of {document['model']['name']}: ρ is "
        f"{_estimate(rho['unprefixed'])} bare and {_estimate(rho['prefixed'])} prefixed; "
        f"{rho['below_limit']:.0%} are below {rho['collapse_limit']}",
    )
    return Group(
        headline,
        *(Padding(Text(line["message"]), (1, 2, 0, 2)) for line in document["findings"]),
        _section("Keys, block by block", _cells(document), _pairs(document)),
        _section("Sinks", _sinks(document)),
        _section(
            f"Interventions (positions are {document['interventions']['positions']})",
            _interventions(document),
        ),
        _section("Attribution of Δρ", _attribution(document)),
        _section("Patches", _patches(document)),
        Padding(Text(document["command"], style="dim"), (1, 0)),
    )


def _section(title: str, *parts: RenderableType) -> RenderableType:
    return Group(Text(""), Text(title, style="bold"), *(Padding(p, (0, 2, 1, 2)) for p in parts))


def _cells(document: Mapping[str, Any]) -> Table:
    table = _table("block", "cell", "n", "‖k‖", "spread", "rank", "‖k‖ in C⁻¹", "spread in C⁻¹")
    for block in document["layers"]:
        for name in ("first_bare", "first_prefixed", "later_bare", "ordinary_first"):
            found = block["cells"].get(name)
            if found:
                table.add_row(
                    str(block["layer"]), name, str(found["n"]), _number(found["norm"]),
                    _number(found["spread"]), _number(found["effective_rank"]),
                    _number(found["whitened_norm"]), _number(found["whitened_spread"]),
                )  # fmt: skip
    return table


def _pairs(document: Mapping[str, Any]) -> Table:
    table = _table(
        "block", "cells", "cosine", "in C⁻¹", "Mahalanobis", "Fréchet", "AUC", "shuffled"
    )
    edited = document["site"]["layer"]
    for block in document["layers"]:
        for pair in block["pairs"]:
            if block["layer"] != edited and pair["cells"] != ["first_bare", "later_bare"]:
                continue
            probe = pair["probe"] or {}
            table.add_row(
                str(block["layer"]), " / ".join(pair["cells"]), _number(pair["cosine"]),
                _number(pair["whitened_cosine"]), _number(pair["mahalanobis"]),
                _number(pair["frechet"]), _number(probe.get("auc")),
                _number(probe.get("null_mean")),
            )  # fmt: skip
    return table


def _sinks(document: Mapping[str, Any]) -> Table:
    table = _table(
        "block", "attention to 0", "sink rate", "stream at 0", "later", "massive at 0", "later",
        "coordinates", "other sinks",
    )  # fmt: skip
    for block in document["sinks"]["layers"]:
        table.add_row(
            str(block["layer"]), _number(block["attention_to_first"]),
            _number(block["sink_rate"]), _number(block["length_first"]),
            _number(block["length_later"]), _number(block["massive_first"]),
            _number(block["massive_later"]),
            ", ".join(f"{c['index']} ({c['share']:.0%})" for c in block["coordinates"][:3]),
            Text(", ".join(f"{o['token']!r} ×{o['count']}" for o in block["others"][:3]) or "none"),
        )  # fmt: skip
    return table


def _interventions(document: Mapping[str, Any]) -> Table:
    table = _table("hypothesis", "intervention", "on", "n", "ρ before", "ρ after", "way", "key")
    for effect in document["interventions"]["effects"]:
        if effect["reason"] is not None:
            table.add_row(
                effect["hypothesis"], effect["name"], effect["starts_from"], "–",
                Text(f"does not apply: {effect['reason']}", style="dim"),
            )  # fmt: skip
            continue
        way = effect["recovered"]
        table.add_row(
            effect["hypothesis"], effect["name"], effect["starts_from"], str(effect["n"]),
            _number(effect["rho_before"]["mean"]), _estimate(effect["rho_after"]),
            "" if way is None else f"{way:.0%}", f"{effect['key_change']:.0%}",
        )  # fmt: skip
    return table


def _attribution(document: Mapping[str, Any]) -> Table:
    found = document["attribution"]
    table = _table("factor", "Shapley value", "alone", "last")
    for factor, share in found["shapley"].items():
        table.add_row(
            factor, _estimate(share), _estimate(found["alone"][factor]),
            _estimate(found["last"][factor]),
        )  # fmt: skip
    for name, part in found["interactions"].items():
        table.add_row(Text(name, style="dim"), "", Text(f"{_estimate(part)}", style="dim"), "")
    table.add_row("Δρ", _estimate(found["delta"]), "", "")
    return table


def _patches(document: Mapping[str, Any]) -> Table:
    table = _table("block", "patched", "into the bare run", "into the prefixed run")
    rows: dict[tuple[int, str], dict[str, float]] = {}
    for patch in document["patching"]["patches"]:
        rows.setdefault((patch["block"], patch["site"]), {})[patch["direction"]] = patch[
            "recovered"
        ]
    for (block, site), way in rows.items():
        table.add_row(str(block), site, f"{way['into_bare']:.0%}", f"{way['into_prefixed']:.0%}")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _estimate(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
