"""Takes ``docs/page.png`` and the pictures of ``docs/gallery.md``: ``python docs/pictures.py``.

For the first it diagnoses an edit of the bundled model, performs it, and renders both results as
one page; a screened data set and a list are pages of the bundled facts, the others of documents
that are recorded. Each picture is the top of its page in a headless Chromium.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402

from diag.keys import diagnose  # noqa: E402
from diag.screen import screen  # noqa: E402
from diag.sequence import sequence  # noqa: E402
from diag.verify import verify  # noqa: E402
from probes.bundled import describe  # noqa: E402
from reports.document import read_document  # noqa: E402
from reports.pages.page import render  # noqa: E402
from tests.browser import Tab, browser, installed  # noqa: E402

SUBJECT, PROMPT, NEW, TRUE = "Vienna", "{} is a city in", "Peru", "Austria"
WIDTH, HEIGHT = 1000, 1430
FACTS, LISTED = Path(describe()["facts"]), 40
GALLERY = {
    "compare": "tests/recorded/compare.json.gz",
    "sweep": "tests/recorded/sweep.json.gz",
    "layers": "docs/evidence/smollm2-list.json.gz",
    "many": "docs/evidence/verified.json.gz",
    "batch": "tests/recorded/batch.json.gz",
    "apply": "tests/recorded/apply.json.gz",
    "first_token": "tests/recorded/first_token.json.gz",
    "hardcases": "docs/evidence/hardcases.json.gz",
    "surrogate": "docs/evidence/surrogate.json.gz",
}


def main() -> None:
    """Writes the pictures."""
    path = installed()
    if path is None:
        raise SystemExit("no Chromium is installed to take a picture of the page")
    keys = diagnose(SUBJECT, PROMPT, target_new=NEW, target_true=TRUE)
    performed = verify(SUBJECT, PROMPT, target_new=NEW, target_true=TRUE)
    with browser(path) as tab:
        picture(tab, render(keys.document, performed.document), ROOT / "docs" / "page.png")
        gallery(tab)


def gallery(tab: Tab) -> None:
    """Writes the gallery's pictures."""
    pages = {
        name: render(read_document(str(ROOT / document))) for name, document in GALLERY.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        pages["screen"] = screen(FACTS, Path(folder, "facts.parquet")).to_html()
    pages["sequence"] = sequence(FACTS, limit=LISTED).to_html()
    for name, page in pages.items():
        picture(tab, page, ROOT / "docs" / "gallery" / f"{name}.png")


def picture(tab: Tab, page: str, target: Path) -> None:
    """Takes a picture of the top of a page.

    Args:
        tab: Where to open it.
        page: HTML.
        target: The picture.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, shot = Path(folder, "page.html"), Path(folder, "page.png")
        source.write_text(page, encoding="utf-8")
        tab.open(source, WIDTH)
        shown = int(tab.run("document.documentElement.scrollHeight"))
        tab.picture(shot, height=min(HEIGHT, shown))
        taken = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
    # A page has few colours: a palette keeps the file small and the text sharp.
    taken.quantize(192).save(target, optimize=True)


if __name__ == "__main__":
    main()
