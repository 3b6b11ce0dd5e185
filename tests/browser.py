"""A headless Chromium spoken to through a pipe: what a page does when somebody opens it."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0  # seconds for one answer; a machine that trains models may be slow


def installed() -> str | None:
    """The browser's path, or ``None``."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Tab:
    """A page in the browser, and everything it complained about or asked for."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._buffer, self._next = write, read, b"", 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Any:
        """Sends a command and waits for its result."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._next:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            chunk = os.read(self._read, 1 << 16) if ready else b""
            if not chunk:
                raise TimeoutError("the browser does not answer")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(line)
        if "id" not in answer:
            self.events.append(answer)
        return answer

    def open(self, page: Path, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Opens a file in a window of some width and waits until it is there."""
        scheme = "dark" if dark else "light"
        self.send("Emulation.setEmulatedMedia", media="screen",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])  # fmt: skip
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.events.clear()
        self.send("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self) -> list[Any]:
        """Errors since the page was opened: exceptions, logged ones, refused by its policy."""
        self.run("0")  # whatever was on its way has come
        bad = []
        for event in self.events:
            told = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                bad.append(told["exceptionDetails"])
            elif event["method"] == "Log.entryAdded" and told["entry"]["level"] == "error":
                bad.append(told["entry"])
            elif event["method"] == "Runtime.consoleAPICalled" and told["type"] == "error":
                bad.append(told["args"])
        return bad

    def requests(self) -> list[str]:
        """Addresses the page asked for since it was opened, its own left out."""
        own = self.run("location.href").split("#")[0]
        return [
            url
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
            and (url := event["params"]["request"]["url"]).split("#")[0] != own
        ]

    def picture(self, path: Path, *, height: int | None = None) -> None:
        """Writes a picture of the whole page, or of its beginning, as PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
        shot = self.send("Page.captureScreenshot", clip=clip | {"scale": 1},
                         captureBeyondViewport=True)  # fmt: skip
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser(path: str) -> Iterator[Tab]:
    """Starts a browser with a fresh profile and ends it.

    Args:
        path: The program.

    Yields:
        An empty tab.
    """
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # The browser reads descriptor 3 and writes 4: ours must not be these before the shell moves.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs_in, theirs_out)]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        shell = f'exec "$@" 3<&{moved[0]} 4>&{moved[1]}'
        process = subprocess.Popen(
            ["bash", "-c", shell, "bash", path, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=moved, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in (theirs_in, theirs_out, *moved):
            os.close(fd)
        try:
            yield Tab(ours_out, ours_in)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours_out)
            os.close(ours_in)
