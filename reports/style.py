"""The style sheet of pages and notebooks: fixed rules, and the colours of the table of editors."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from reports import colours
from reports.tables import editors


def style() -> str:
    """The style sheet, confined to elements of the class ``rome-diagnosis``."""
    rules = resources.files("reports.pages").joinpath("templates/style.css")
    of_editors = "\n".join(
        f".rome-diagnosis .of-{shown.style} {{ --editor: var(--{shown.style}); }}"
        for shown in editors.looks()
    )
    return (
        f"{_variables(colours.light())}\n"
        f"@media screen and (prefers-color-scheme: dark) {{\n{_variables(colours.dark())}\n}}\n"
        f"{rules.read_text(encoding='utf-8')}{of_editors}\n"
    )


def _variables(colours: Mapping[str, str]) -> str:
    pairs = " ".join(f"--{name}: {colour};" for name, colour in colours.items())
    return f".rome-diagnosis {{ {pairs} --editor: var(--dim); }}"
