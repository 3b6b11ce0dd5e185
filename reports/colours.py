"""The colours of pages and figures, light and dark: some by meaning, editors' by their table."""

from __future__ import annotations

import colorsys

from reports.tables import editors
from rome_diagnosis.editors import EDITORS, PUBLISHED, REMEDY
from rome_diagnosis.methods import METHODS

INK, DIM, LINE, PAPER = "#1b1f24", editors.UNKNOWN_COLOUR, "#d1d9e0", "#ffffff"
FAIL, WARN, PASS = "#b3261e", "#8a5a00", "#1a6b35"
_LIGHT = {
    "ink": INK, "dim": DIM, "paper": PAPER, "line": LINE, "soft": "#f6f8fa",
    "fail": FAIL, "warn": WARN, "pass": PASS,
}  # fmt: skip
_DARK = {
    "ink": "#e6edf3", "dim": "#9aa4af", "paper": "#0d1117", "line": "#30363d", "soft": "#161b22",
    "fail": "#ff8a80", "warn": "#e3b341", "pass": "#56d364",
}  # fmt: skip
# Methods that are no editors, which have a style of their own.
_METHODS = {
    f"method-{name.replace('_', '-')}": method.colour
    for name, method in METHODS.items()
    if name not in EDITORS
}
DARK_LIGHTNESS, DARK_SATURATION = 0.66, 0.75

# The looks of series that are no editors, such as bare and mean keys: a colour and, so that figures
# say the same in grey, a marker. Bare keys look like the editor that divides by one, and so on.
BARE, MEAN = [(EDITORS[name].colour, EDITORS[name].marker) for name in (PUBLISHED, REMEDY)]
THIRD, FOURTH = ("#00785a", "s"), ("#8a3d7e", "D")


def light() -> dict[str, str]:
    """The colours of a light page, by the names of its CSS variables without their dashes."""
    return _LIGHT | {shown.style: shown.colour for shown in editors.looks()} | _METHODS


def dark() -> dict[str, str]:
    """The same of a dark page."""
    of_methods = {name: lightened(colour) for name, colour in _METHODS.items()}
    return _DARK | {s.style: lightened(s.colour) for s in editors.looks()} | of_methods


def lightened(colour: str) -> str:
    """A colour of the same hue, legible on a dark page.

    Args:
        colour: ``#rrggbb``.

    Returns:
        ``#rrggbb``.
    """
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    parts = colorsys.hls_to_rgb(hue, DARK_LIGHTNESS, DARK_SATURATION * saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
