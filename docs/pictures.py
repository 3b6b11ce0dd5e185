"""Takes ``docs/page.png``, the picture of a real page in the README: ``python docs/pictures.py``.

It diagnoses an edit of the bundled model, performs it, renders both results as one page, and takes
a picture of the top of the page in a headless Chromium.
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
from diag.verify import verify  # noqa: E402
from reports.pages.page import render  # noqa: E402
from tests.browser import browser, installed  # noqa: E402

SUBJECT, PROMPT, NEW, TRUE = "Vienna", "{} is a city in", "Peru", "Austria"
WIDTH, HEIGHT = 1000, 1430


def main() -> None:
    """Writes the picture."""
    path = installed()
    if path is None:
        raise SystemExit("no Chromium is installed to take a picture of the page")
    keys = diagnose(SUBJECT, PROMPT, target_new=NEW, target_true=TRUE)
    performed = verify(SUBJECT, PROMPT, target_new=NEW, target_true=TRUE)
    with tempfile.TemporaryDirectory() as folder, browser(path) as tab:
        page, shot = Path(folder, "page.html"), Path(folder, "page.png")
        page.write_text(render(keys.document, performed.document), encoding="utf-8")
        tab.open(page, WIDTH)
        tab.picture(shot, height=HEIGHT)
        picture = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
    # The page has few colours: a palette keeps the file small and the text sharp.
    picture.quantize(64).save(ROOT / "docs" / "page.png", optimize=True)


if __name__ == "__main__":
    main()
