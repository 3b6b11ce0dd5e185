"""The page of second moments."""

from __future__ import annotations

import html

from tests.documents import sample
from tests.reports.reading import words


def test_second_moments_say_how_to_use_them(pages: dict[str, str]) -> None:
    said = html.unescape(words(pages["moments"]))
    for layer in sample("covariance")["layers"]:
        assert f"--second-moment {layer['file']}" in said
        assert f"Block {layer['layer']}" in said
