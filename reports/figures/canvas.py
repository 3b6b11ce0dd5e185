"""One figure, drawn on anybody's axes or as inline SVG: real text, the page's own colours.

Figures are drawn in the colours of a light page. In the SVG of a page each of these becomes a CSS
variable, so that the page shows one figure in light, dark and print, with the same bytes each time.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reports import colours
from reports.colours import DIM, FAIL, INK, LINE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: dict[str, Any] = {
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
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


@contextmanager
def style(name: str) -> Iterator[None]:
    """The style of all figures, and names within an SVG that depend on nothing but its own."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context(settings):
        yield


@dataclass(frozen=True)
class Drawing:
    """One figure, not yet drawn.

    Attributes:
        name: Its name on the page, unique there.
        alt: What it shows, in a sentence, for those who cannot see it.
        paint: Draws it on axes.
        size: Width and height in inches; narrow enough for a phone, two fit side by side.
        left: Margin for labels, in inches. A layout engine would find it by drawing three times.
        top: Margin for the legend, in inches.
    """

    name: str
    alt: str
    paint: Callable[[Axes], None]
    size: tuple[float, float] = (4.6, 3.2)
    left: float = 0.7
    top: float = 0.4

    def on(self, axes: Axes) -> None:
        """Draws the figure on axes, whose own style stays."""
        self.paint(axes)
        tick(axes)

    def figure(self) -> Figure:
        """The figure, drawn on a canvas of its own."""
        # Not pyplot: it would choose a window system and keep every figure alive.
        from matplotlib.figure import Figure

        width, height = self.size
        with style(self.name):
            figure = Figure(figsize=self.size)
            figure.subplots_adjust(
                left=self.left / width, right=1 - 0.25 / width,
                bottom=0.55 / height, top=1 - self.top / height,
            )  # fmt: skip
            self.on(figure.subplots())
        return figure

    def __html__(self) -> str:
        """The figure as an ``<svg>`` element, which templates take as it is."""
        return inline(self.figure(), self.name, self.alt)


def inline(figure: Figure, name: str, alt: str) -> str:
    """A figure as an ``<svg>`` element in the page's colours.

    Args:
        figure: A drawn figure.
        name: Its name on the page.
        alt: What it shows.

    Returns:
        HTML.
    """
    buffer, nothing = io.StringIO(), dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style(name):
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
    variables = {colour: f"var(--{variable})" for variable, colour in colours.light().items()}
    # Inside tags alone: text that looks like a colour stays text. Coordinates need hundredths.
    body = re.sub(r"<[^>]+>", lambda tag: _slim(tag[0], variables), body)
    return head + re.sub(r"\s*\n\s*", "\n", body).strip()


def _slim(tag: str, variables: dict[str, str]) -> str:
    tag = re.sub(r"#[0-9a-f]{6}\b", lambda m: variables.get(m[0], m[0]), tag)
    return re.sub(r"(\d\.\d{2})\d+", r"\1", tag)


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
        align: On which side of a vertical line its name ends: ``right`` puts it to the left. At
            which end of a horizontal line it stands: ``left``, or else the right one.
    """
    line = axes.axvline if vertical else axes.axhline
    line(at, color=colour, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
    end = "left" if align == "left" else "right"
    x, y = (at, 1.0) if vertical else (float(end == "right"), at)
    axes.text(
        x, y, text, color=colour, fontsize=9, va="bottom", ha=align if vertical else end,
        transform=axes.get_xaxis_transform() if vertical else axes.get_yaxis_transform(),
    )  # fmt: skip


def legend(axes: Axes, *, columns: int = 2, **options: Any) -> None:
    """The legend, above the axes."""
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "handletextpad": 0.2}
    axes.legend(**{**place, "ncols": columns, **options})


def tick(axes: Axes, *, n: int = 6) -> None:
    """Ticks of logarithmic axes, now that their ends are known: less than two decades need more.

    Args:
        axes: Where.
        n: About how many an axis has room for.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            subs = (1.0, 2.0, 5.0) if high / low < 50 else (1.0,)
            axis.set_major_locator(LogLocator(subs=subs, numticks=n))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_locator(NullLocator())  # they took two fifths of a page's time
