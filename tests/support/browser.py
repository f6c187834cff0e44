"""Driving headless Chromium through its DevTools protocol, over a pair of pipes: no port and no library."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

# A browser with no way out: no name resolves, and what has an address goes to a port where nobody listens.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and writes answers and events to descriptor 4, each ended by a zero byte.
_COMMANDS, _ANSWERS = 3, 4
# After which a browser that says nothing is given up; on a busy machine an answer takes seconds.
_ANSWER_SECONDS = 180.0

# Every image and video of a page that has not decoded, by its label; what is folded away is opened first.
_UNDECODED = """
(async () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  const failed = [];
  for (const image of document.images) {
    await image.decode().catch(() => {});
    if (!image.naturalWidth) failed.push(image.alt);
  }
  for (const video of document.querySelectorAll("video")) {
    video.preload = "auto";
    video.load();
    await new Promise((done) => { video.onloadeddata = video.onerror = done; setTimeout(done, 60000); });
    if (video.readyState < 2 || !video.videoWidth) failed.push(video.getAttribute("aria-label"));
  }
  return failed;
})()
"""

# What axe-core calls serious or critical, a line a finding with the first element that it was found on.
_FINDINGS = """
axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => violations
  .filter(({impact}) => ["serious", "critical"].includes(impact))
  .map(({impact, id, help, nodes}) => `${impact}: ${id}: ${help}: ${nodes[0].html.slice(0, 200)}`))
"""


class Page:
    """One tab: its address, what went wrong on it, and what its scripts answer."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._buffer, self._session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def _read(self, seconds: float) -> dict[str, Any] | None:
        end = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
                return None
            self._buffer += os.read(self._answers, 1 << 20)
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and wait for its answer; events on the way are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while answer := self._read(_ANSWER_SECONDS):
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)
        raise AssertionError(f"{method}: no answer from the browser")

    def open(self, path: Path, width: int = 1280, height: int = 800) -> None:
        """Open a file and wait until all of it has loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            event = self._read(_ANSWER_SECONDS)
            assert event, f"{path}: not loaded after {_ANSWER_SECONDS} s"
            self.events.append(event)

    def show(self, medium: str = "screen", scheme: str = "light") -> None:
        """Show pages as on screen or on paper (``print``), to readers who prefer light or dark."""
        self.send(
            "Emulation.setEmulatedMedia",
            media=medium,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def press(self, key: str) -> None:
        """Press a key such as ``ArrowRight`` or ``Escape`` where the focus is."""
        codes = {"Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.send("Input.insertText", text=text)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression; a promise is waited for."""
        answer = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """Requests that failed, errors and warnings on the console, and scripts that threw."""
        names = ("Network.loadingFailed", "Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [json.dumps(event)[:300] for event in self.events if event["method"] in names]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, without what it holds itself."""
        sent = [event["params"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [url for entry in sent if not (url := entry["request"]["url"]).startswith("data:")]

    @property
    def undecoded(self) -> list[str]:
        """Labels of the images and videos that the browser could not decode; opens all that is folded away."""
        return self.evaluate(_UNDECODED)

    @property
    def barriers(self) -> list[str]:
        """What axe-core finds on the page that seriously keeps people from using it."""
        script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        self.evaluate(f"{script}; 0")
        return self.evaluate(_FINDINGS)

    def screenshot(self) -> bytes:
        """What the window shows, as a PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Page]:
    """A tab of a browser that reaches no network; the test is skipped where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()

    def place_pipes() -> None:
        # By way of high numbers, since either end may lie where the other one has to go.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]
        for end, place in zip(ends, (_COMMANDS, _ANSWERS), strict=True):
            os.dup2(end, place)

    command = [chromium, *_FLAGS, f"--user-data-dir={profile}"]
    with subprocess.Popen(
        command, preexec_fn=place_pipes, pass_fds=(_COMMANDS, _ANSWERS), stderr=subprocess.DEVNULL
    ) as process:
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Page(ours_out, ours_in)
        finally:
            process.kill()
            os.close(ours_out)
            os.close(ours_in)
