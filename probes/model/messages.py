"""What libraries say when they fail, in one line of ours."""

from __future__ import annotations

_WAY_OUT = ("install", "trust_remote_code", "sentencepiece", "tiktoken", "upgrade")


def short_message(error: BaseException) -> str:
    """A library's message in one line: its beginning, and the lines that name a way out.

    Args:
        error: What was raised.

    Returns:
        At most some 500 characters.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    useful = [lines[0][:300]]
    useful += [line[:200] for line in lines[1:] if any(word in line for word in _WAY_OUT)][:2]
    return " ".join(useful)
