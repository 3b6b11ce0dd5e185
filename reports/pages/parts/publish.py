"""What a page needs to be read, cited and copied from: contents, permalinks, tables and figures.

A page's own HTML is read once more when it is rendered. Everything is a link to ``data:``, so that
one file still holds all and no script runs; texts from outside are escaped before they come here.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser

from reports import colours

HEADING = re.compile(r'<h2 id="([\w-]+)">(.*?)</h2>', re.DOTALL)
NAMED = re.compile(r'<h[23] id="([\w-]+)"')
FIGURE = re.compile(r"(<svg.*?</svg>)(.*?)(?=</figure>)", re.DOTALL)
TABLE = re.compile(r"<(/?)table\b")
TAGS = re.compile(r"<[^>]+>")
NUMBER = re.compile(r"[−-]?[\d,]*\.?\d+(e[−+-]?\d+)?")
BLANKS = re.compile(r"[ \n\t\r]+")
# Characters of cells that LaTeX reads as something else, or not at all.
LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "\u00a0": "~", "…": r"\ldots{}"}
    | {"−": "$-$", "×": r"$\times$", "→": r"$\to$", "√": r"$\surd$", "‖": r"$\|$", "≤": r"$\le$"}
    | {"ρ": r"$\rho$", "φ": r"$\varphi$", "Δ": r"$\Delta$", "δ": r"$\delta$", "σ": r"$\sigma$"}
    | {"λ": r"$\lambda$", "ᵀ": "$^{T}$", "₀": "$_{0}$", "₁": "$_{1}$", "₂": "$_{2}$", "₊": "$_{+}$"}
    | {"␣": r"\textvisiblespace{}"}
)
LINK = r'<a class="permalink" href="#\1" aria-label="Link to this section"></a>'


def published(html: str, title: str) -> str:
    """A page with its list of contents, permalinks and files to take away.

    Args:
        html: The page's main part.
        title: What files are named after.

    Returns:
        HTML.
    """
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "result"
    html = _with_tables(html, name)
    html = FIGURE.sub(lambda match: match[1] + _captioned(match[2], _svg(match[1], name)), html)
    listed = "".join(
        f'<li><a href="#{anchor}">{TAGS.sub("", heading)}</a></li>\n'
        for anchor, heading in HEADING.findall(html)
    )
    contents = f'<nav class="contents" aria-label="Contents">\n<ul>\n{listed}</ul>\n</nav>\n'
    html = HEADING.sub(rf'<h2 id="\1">\2{LINK}</h2>', html)
    return html.replace("</header>\n", f"</header>\n{contents}", 1)


def _with_tables(html: str, name: str) -> str:
    """Tables that stand in no other one, each with its files after it."""
    parts, end, depth, start = [], 0, 0, 0
    taken: Counter[str] = Counter()
    for tag in TABLE.finditer(html):
        start = start if depth else tag.start()
        depth += -1 if tag[1] else 1
        if depth:
            continue
        stop = tag.end() + 1
        headings = NAMED.findall(html, 0, start)
        own = f"{name}-{headings[-1]}" if headings else name
        taken[own] += 1
        own += f"-{taken[own]}" if taken[own] > 1 else ""
        parts += [html[end:stop], _downloads(_files(html[start:stop], own))]
        end = stop
    return "".join(parts) + html[end:]


def _files(table: str, name: str) -> list[str]:
    head, body, values = read_table(table)
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([head, *values] if any(head) else values)
    return [
        _link("CSV", f"{name}.csv", "text/csv", written.getvalue()),
        _link("LaTeX", f"{name}.tex", "text/x-tex", latex(head, body)),
    ]


def latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a paper, with the rules of the package ``booktabs``.

    Args:
        head: Names of the columns, all empty for none.
        rows: Cells, as they are shown.

    Returns:
        LaTeX.
    """
    lines = [" & ".join(map(_escaped, row)) + r" \\" for row in [head, *rows]]
    titled = [lines[0], r"\midrule"] if any(head) else []
    columns = "l" + "r" * (max(map(len, [head, *rows])) - 1)
    top, bottom = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"], [r"\bottomrule"]
    return "\n".join([*top, *titled, *lines[1:], *bottom, r"\end{tabular}", ""])


def _escaped(cell: str) -> str:
    text = cell.translate(LATEX).replace("⁻¹", "$^{-1}$")
    return re.sub("(.)\u0304", r"$\\bar{\1}$", text)


def _plain(text: str) -> str:
    """A cell that a program reads as a number, or a spreadsheet as text and never as a formula."""
    if NUMBER.fullmatch(text):
        return text.replace("−", "-").replace(",", "")
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _svg(svg: str, name: str) -> str:
    """A figure by itself, in the colours of a light page."""
    light = colours.light()
    svg = re.sub(r"var\(--([\w-]+)\)", lambda variable: light[variable[1]], svg)
    svg = svg.replace('href="#', 'xlink:href="#').replace("<svg ", (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        'font-family="sans-serif" '
    ), 1)  # fmt: skip
    shown = re.search(r'<title id="([\w-]+)-alt"', svg)
    return _link("SVG", f"{name}-{shown[1] if shown else 'figure'}.svg", "image/svg+xml", svg)


def _link(text: str, name: str, kind: str, content: str) -> str:
    data = base64.b64encode(content.encode()).decode()
    return f'<a download="{name}" href="data:{kind};base64,{data}">{text}</a>'


def _captioned(caption: str, link: str) -> str:
    """What follows a figure, with its file at the end: a caption must stay the last element."""
    if "</figcaption>" not in caption:
        return caption + _downloads([link])
    return caption.replace("</figcaption>", f' <span class="downloads">{link}</span></figcaption>')


def _downloads(links: Sequence[str]) -> str:
    return f'\n<p class="downloads">{" ".join(links)}</p>\n'


def read_table(table: str) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Reads a table of a page.

    Args:
        table: The element; tables inside its cells are not read.

    Returns:
        The columns' names, rows as they are shown, and rows with the numbers that cells were
        written from where the page holds these.
    """
    reader = _Reader()
    reader.feed(table)
    heads = [[text for text, _ in row] for row in reader.rows[: reader.n_heads]]
    width = max((len(row) for row in reader.rows), default=0)
    padded = [row + [""] * (width - len(row)) for row in heads]
    names = [": ".join(filter(None, column)) for column in zip(*padded, strict=True)]
    body = reader.rows[reader.n_heads :]
    return (
        names or [""] * width,
        [[text for text, _ in row] for row in body],
        [[_plain(text if value is None else value) for text, value in row] for row in body],
    )


class _Reader(HTMLParser):
    """Rows of cells, each its text and its ``data-v``; of what can be opened, the summary."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, str | None]]] = []
        self.n_heads = self._depth = self._hidden = 0
        self._columns = 1
        self._value: str | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._depth += tag == "table"
        if self._depth > 1:
            return
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self._columns, self._value = int(given.get("colspan") or 1), given.get("data-v")
            self._text, self._hidden = [], 0
        elif tag == "br":
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._depth == 1:
            if tag in ("td", "th"):
                text = BLANKS.sub(" ", "".join(self._text)).strip(" ")
                self.rows[-1] += [(text, self._value)] * self._columns
            elif tag == "thead":
                self.n_heads = len(self.rows)
            elif tag == "summary":
                self._hidden = 1  # the rest of the cell is what the row opens into
        self._depth -= tag == "table"

    def handle_data(self, data: str) -> None:
        if self._depth == 1 and not self._hidden:
            self._text.append(data)


def folded(html: str) -> str:
    """A page as a card in a notebook: its headline, and the rest on request.

    Args:
        html: The page's main part.

    Returns:
        HTML.
    """
    head, _, rest = html.partition("</header>\n")
    body, _, end = rest.rpartition("</main>")
    return (
        f"{head}</header>\n<details><summary>Everything</summary>\n{body}</details>\n</main>{end}"
    )
