"""The editors: one equation, ΔW = C⁻¹k (v* − v)ᵀ / D, and which key and value each puts into it.

Every editor is a row of :data:`EDITORS`. Whatever differs between editors, in mathematics or in
print, stands here; the rest of the program iterates over the table, in its order.

Sources: Meng et al. 2022 (ROME), equation 2; Yang et al. 2024 (The Fall of ROME), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# The mean over all contexts (k̄, v̄), or the bare prompt's own (k_u, v_u).
Key = Literal["mean", "bare"]


@dataclass(frozen=True)
class Editor:
    """One editor: what it puts into the update equation, and how it is shown.

    Attributes:
        name: Its name in documents.
        along: The key k of the direction C⁻¹k.
        divide_by: The key q of the denominator D = kᵀC⁻¹q.
        subtract: The value v that is subtracted from the target value v*.
        label: Its name in full, e.g. ``ROME as published``.
        short: Its name in figures and columns, e.g. ``ROME``.
        formula: The denominator as a formula.
        note: What it puts where, in a phrase.
        colour: ``#rrggbb``, legible on white; dark pages lighten it.
        marker: A matplotlib marker, so that figures say the same in grey.
    """

    name: str
    along: Key
    divide_by: Key
    subtract: Key
    label: str
    short: str
    formula: str
    note: str
    colour: str
    marker: str


@dataclass(frozen=True)
class Arm:
    """One way in which a verification tests an edit: an editor, with or without a test-time prefix.

    Attributes:
        name: Its name in documents.
        editor: The editor that makes the edit.
        prefixed: Whether a prefix precedes the prompt at test time.
        label: Its name in figures and columns.
        colour: As of :class:`Editor`.
        marker: As of :class:`Editor`.
    """

    name: str
    editor: str
    prefixed: bool
    label: str
    colour: str
    marker: str


# The editor that verdicts are about, and the one that repairs it. ρ = D_published / D_remedy.
PUBLISHED = "rome"
REMEDY = "c_rome"

EDITORS: Mapping[str, Editor] = {
    editor.name: editor
    for editor in (
        Editor(
            "rome", along="mean", divide_by="bare", subtract="bare",
            label="ROME as published", short="ROME", formula="k̄ᵀC⁻¹k_u",
            note="as published: mean key above, bare key below",
            colour="#c24400", marker="X",
        ),
        Editor(
            "c_rome", along="mean", divide_by="mean", subtract="mean",
            label="C-ROME, mean key throughout", short="C-ROME", formula="k̄ᵀC⁻¹k̄",
            note="the mean key in both places",
            colour="#0067a8", marker="o",
        ),
        Editor(
            "p_rome", along="bare", divide_by="bare", subtract="bare",
            label="P-ROME, bare key throughout", short="P-ROME", formula="k_uᵀC⁻¹k_u",
            note="the bare key in both places",
            colour="#00785a", marker="s",
        ),
    )
}  # fmt: skip

ARMS: Mapping[str, Arm] = {
    **{
        name: Arm(name, name, False, editor.short, editor.colour, editor.marker)
        for name, editor in EDITORS.items()
    },
    "c_rome_prefixed": Arm(
        "c_rome_prefixed", "c_rome", True, "C-ROME + prefix", "#8a3d7e", "D"
    ),
}  # fmt: skip
