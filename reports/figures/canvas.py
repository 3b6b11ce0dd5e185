"""Figures as inline SVG: real text, the page's own colours, the same bytes every time.

matplotlib knows nothing of CSS, so figures are drawn in placeholder colours, and each of these
becomes a CSS variable in the SVG: the page then shows one figure in light, dark and print.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Placeholders: no figure draws a colour that is nearly black by other means.
INK, DIM, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
ROME, C_ROME, P_ROME, PREFIXED = "#050505", "#060606", "#070707", "#080808"
FAIL, WARN, PASS = "#090909", "#0a0a0a", "#0b0b0b"
VARIABLES = {
    INK: "--ink", DIM: "--dim", LINE: "--line", PAPER: "--paper",
    ROME: "--rome", C_ROME: "--c-rome", P_ROME: "--p-rome", PREFIXED: "--prefixed",
    FAIL: "--fail", WARN: "--warn", PASS: "--pass",
}  # fmt: skip
COLOURS = {"rome": ROME, "c_rome": C_ROME, "p_rome": P_ROME, "c_rome_prefixed": PREFIXED}
# A shape beside every colour: the figures say the same in grey.
SHAPES = {"rome": "X", "c_rome": "o", "p_rome": "s", "c_rome_prefixed": "D"}

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.edgecolor": DIM,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}


def draw(
    name: str,
    alt: str,
    paint: Callable[[Axes], None],
    *,
    size: tuple[float, float] = (4.6, 3.2),
    left: float = 0.7,
    top: float = 0.4,
) -> str:
    """Draws one figure.

    Args:
        name: Its name on the page, unique there.
        alt: What it shows, in a sentence, for those who cannot see it.
        paint: Draws on the axes.
        size: Width and height in inches; narrow enough for a phone, two fit beside each other.
        left: Margin for labels, in inches. A layout engine would find it by drawing three times.
        top: Margin for the legend, in inches.

    Returns:
        An ``<svg>`` element.
    """
    with _figure(name, size) as figure:
        width, height = size
        figure.subplots_adjust(
            left=left / width, right=1 - 0.25 / width, bottom=0.55 / height, top=1 - top / height
        )
        axes = figure.subplots()
        paint(axes)
        _tick(axes)
        return _inline(figure, name, alt)


@contextmanager
def _figure(name: str, size: tuple[float, float]) -> Iterator[Figure]:
    import matplotlib as mpl

    # Not pyplot: it would choose a window system and keep every figure alive.
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(settings):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        yield figure


def _inline(figure: Figure, name: str, alt: str) -> str:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box
    head = (
        f'<svg viewBox="{box[1]}" role="img" aria-labelledby="{name}-alt">'
        f'<title id="{name}-alt">{html.escape(alt)}</title>'
    )
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    # Names of groups repeat from figure to figure; only what is referred to needs one.
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)  # the page's own
    # HTML knows neither prefixed attributes nor XML's styles without a type.
    body = body.replace("xlink:href", "href")
    body = re.sub(r'<style type="text/css">.*?</style>', "", body, flags=re.DOTALL)
    body = _share_styles(body)
    body = re.sub(r"#(0[1-9ab])\1\1\b", lambda m: f"var({VARIABLES[m[0]]})", body)
    # Coordinates need no more than hundredths; numbers that are text stay whole.
    body = re.sub(r"<[^>]+>", lambda m: re.sub(r"(\d\.\d{2})\d+", r"\1", m[0]), body)
    return head + re.sub(r"\s*\n\s*", "\n", body).strip()


def _share_styles(svg: str) -> str:
    """Says once what every point of a cloud says: thousands of points stay small."""
    points = r'<g([^>]*)>\n\s*((?:<use [^>]*style="([^"]*)"/>\s*)+)</g>'

    def hoist(match: re.Match[str]) -> str:
        attributes, uses, style = match.groups()
        if set(re.findall(r'style="([^"]*)"', uses)) != {style}:
            return match[0]
        return f'<g{attributes} style="{style}">' + uses.replace(f' style="{style}"', "") + "</g>"

    return re.sub(points, hoist, svg)


def limit(
    axes: Axes, at: float, text: str, *, vertical: bool = True, colour: str = FAIL,
    align: str = "center",
) -> None:  # fmt: skip
    """Draws a limit with its name.

    Args:
        axes: Where.
        at: The limit.
        text: Its name.
        vertical: Whether it is a limit on the horizontal axis.
        colour: The line's.
        align: On which side of a vertical line its name ends: ``right`` puts it to the left.
    """
    line = axes.axvline if vertical else axes.axhline
    line(at, color=colour, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
    if vertical:
        axes.text(
            at, 1.0, text, color=colour, fontsize=9, ha=align, va="bottom",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    else:
        axes.text(
            1.0, at, text, color=colour, fontsize=9, ha="right", va="bottom",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip


def plain_log(axes: Axes, which: str) -> None:
    """Makes an axis logarithmic; its ticks are plain numbers."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")


def _tick(axes: Axes) -> None:
    """Ticks of logarithmic axes, now that their ends are known: less than two decades need more."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            subs = (1.0, 2.0, 5.0) if high / low < 50 else (1.0,)
            axis.set_major_locator(LogLocator(subs=subs, numticks=6))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(NullFormatter())
