"""A browser led over a pipe, in its own protocol: open a page, give a file to an input, read what the page says.

No driver and no socket: Chromium takes `--remote-debugging-pipe`, JSON messages that end with a zero byte.

    with Browser(find()) as browser:
        browser.open(page)
        browser.choose("#model-report-file", path)
        browser.wait("window.modelReport.last", 60)
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe"
).split()


class BrowserError(RuntimeError):
    """What the browser refused, or a page that threw."""


class Browser:
    """One page of a headless browser; a context manager, and `errors` lists what its console complained of."""

    def __init__(self, path: str, width: int = 1280, height: int = 1000) -> None:
        self.errors: list[str] = []
        self._number, self._buffer, self._session = 0, b"", ""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [
            path,
            *FLAGS,
            f"--user-data-dir={self._profile.name}",
            f"--window-size={width},{height}",
            "about:blank",
        ]

        def join() -> None:  # the browser reads from 3 and writes to 4
            os.dup2(theirs_in, 203)
            os.dup2(theirs_out, 204)
            os.dup2(203, 3)
            os.dup2(204, 4)

        self._process = subprocess.Popen(
            command, close_fds=False, preexec_fn=join, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(found["targetId"] for found in targets if found["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def send(self, method: str, timeout: float = 60, **given: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + timeout
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(until - time.monotonic(), 0))
            part = os.read(self._in, 1 << 20) if ready else b""
            if not part:
                raise BrowserError("the browser does not answer")
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        if message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]).splitlines()[0])
        if message.get("method") == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            if not address.startswith(("file:", "data:", "blob:", "about:")):
                self.errors.append(f"the page asks for {address}")
        return message

    def open(self, page: Path | str, timeout: float = 60) -> None:
        """Load a page, by its path or address, and wait for it."""
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'", timeout)

    def value(self, expression: str, timeout: float = 60) -> Any:
        """What an expression is in the page; of a promise what it brings."""
        found = self.send(
            "Runtime.evaluate", timeout, expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in found:
            raise BrowserError(
                found["exceptionDetails"].get("exception", {}).get("description", "an error in the page")
            )
        return found["result"].get("value")

    def wait(self, expression: str, timeout: float = 60) -> Any:
        """The value of an expression as soon as there is one."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if found := self.value(expression, timeout):
                return found
            time.sleep(0.05)
        raise BrowserError(f"after {timeout:g} s there is still no {expression}")

    def choose(self, selector: str, path: Path) -> None:
        """Give a file to an input, as a person does."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def picture(self, out: Path, width: int = 1280, dark: bool = False) -> None:
        """A photograph of the whole page, so many pixels wide; of a very long page, its first 12,000 rows."""
        mode = "dark" if dark else "light"
        self.value(f"document.documentElement.dataset.theme = document.documentElement.dataset.mode = '{mode}'")
        height = 1000  # a picture beyond the window shows wide boxes where they are not: the window grows instead
        for _ in range(2):
            self.send(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            height = min(self.value("document.documentElement.scrollHeight"), 12_000)
        # What fades from light to dark is shown at its end; what moves for ever has none.
        self.value("document.getAnimations().forEach(moving => { try { moving.finish() } catch {} })")
        found = self.send("Page.captureScreenshot", format="png")
        out.write_bytes(base64.b64decode(found["data"]))
