"""``python -m probes.bundled``: where the bundled model and its data are, and its card."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from probes.bundled import describe


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``python -m probes.bundled``."""
    parser = argparse.ArgumentParser(
        prog="python -m probes.bundled",
        description="Says where the bundled model and its data are, and prints its card's figures.",
    )
    parser.add_argument("--json", metavar="FILE", help="write it all as JSON; - is standard output")
    options = parser.parse_args(arguments)
    description = describe()
    if options.json is None:
        for name in ("path", "facts", "texts", "corpus", "history", "layer"):
            print(f"{name:8} {description[name]}")
        return 0
    text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
        return 0
    try:
        Path(options.json).write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"cannot write {options.json}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
