"""A real browser, driven through a pipe: what it computes of a page, and what the page looks like.

Chromium speaks its DevTools protocol over two file descriptors when started with ``--remote-debugging-pipe``: JSON
messages with a zero byte between them.  Nothing is loaded from anywhere but the files a test has written.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE = 60.0  # seconds until a browser that does not answer is a failure; it answers in milliseconds


def find() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def required() -> str:
    """The browser; without one the test is skipped, but in continuous integration it fails."""
    path = find()
    if path is None:
        message = f"none of {', '.join(NAMES)} is installed: the page was not looked at"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


class Browser:
    """One process, one page at a time."""

    def __init__(self, folder: Path) -> None:
        path = required()
        command = [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--no-first-run", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe"]
        command += [f"--user-data-dir={folder}", "about:blank"]
        # It reads from descriptor 3 and writes to 4; ours must not be one of them before they are moved there.
        inwards, self._to, self._from, outwards = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in _pipes())
        moves = [(os.POSIX_SPAWN_DUP2, inwards, 3), (os.POSIX_SPAWN_DUP2, outwards, 4)]
        silence = [(os.POSIX_SPAWN_OPEN, output, os.devnull, os.O_WRONLY, 0) for output in (1, 2)]
        self._process = os.posix_spawn(path, command, os.environ, file_actions=[*moves, *silence])
        os.close(inwards)
        os.close(outwards)
        self._unread, self._number, self._session = b"", 0, ""
        self.said: list[dict[str, Any]] = []
        try:
            self._attach()
        except BaseException:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            raise

    def _attach(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and return its result; events that come meanwhile are kept in ``said``."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.said.append(answer)

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False, script: bool = True) -> None:
        """Load a file into a window of that size, and wait until it is there."""
        self.said = []
        phone = width < 600
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.said):
            self.said.append(self._next())

    def compute(self, expression: str) -> Any:
        """Evaluate an expression in the page and return its value."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Write a screenshot of the window, or of the whole page."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Everything the page wrote to the console, and every exception and refusal of the browser."""
        known = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"])[:500] for event in self.said if event.get("method") in known]

    def requests(self) -> list[str]:
        """The addresses the page asked for."""
        asked = [event["params"] for event in self.said if event.get("method") == "Network.requestWillBeSent"]
        return [str(request["request"]["url"]) for request in asked]

    def close(self) -> None:
        self._session = ""
        self.ask("Browser.close")
        os.waitpid(self._process, 0)
        os.close(self._to)
        os.close(self._from)


def _pipes() -> Iterator[int]:
    """Both ends of two pipes: one to the browser, one from it."""
    ends = (*os.pipe(), *os.pipe())
    yield from ends
    for end in ends:
        os.close(end)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()
