"""Puts the real output of commands into README and docs: ``python docs/refresh.py``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(<!-- output of: python (?P<command>[^>]*?)"
    r"(, section \"(?P<section>[^>]*)\")? -->\n```text\n)"
    r".*?(?P<end>```\n<!-- end of output -->)",
    re.DOTALL,
)
WIDTH = 100
FILES = (
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("hardcases", "layers", "pretrained", "verify")),
)


def output(command: str, section: str | None = None) -> str:
    """What a command prints in a terminal of a fixed width, or one section of it.

    Args:
        command: The command line, without ``python``.
        section: The section's title; all that is printed if ``None``.

    Returns:
        The text.
    """
    printed = _printed(command)
    if section is None:
        return printed
    (paragraph,) = (part for part in printed.split("\n\n") if part.startswith(f"{section}\n"))
    return paragraph.removesuffix("\n") + "\n"


@cache
def _printed(command: str) -> str:
    """All that a command prints; one whose sections are shown apart runs once."""
    words = command.replace('"', "").split()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT, check=True, capture_output=True, text=True,
        env=os.environ | {"COLUMNS": str(WIDTH), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    return "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())


def main() -> None:
    """Rewrites every block of output."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        path.write_text(
            BLOCK.sub(
                lambda block: block[1] + output(block["command"], block["section"]) + block["end"],
                text,
            ),
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
