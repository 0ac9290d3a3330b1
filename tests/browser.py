"""A real browser for the tests: chromium, headless, driven over the two pipes of its DevTools protocol.

Messages are JSON that ends in a NUL byte, so neither a port nor a further package is needed.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE_S = 60
PICTURES = Path(__file__).parent.parent / "outputs/screenshots"  # of pages, kept after the tests
AXE = Path(__file__).with_name("axe.min.js")
SERIOUS = """axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}).then(({violations}) =>
  violations.filter(({impact}) => ["serious", "critical"].includes(impact))
    .flatMap(({id, nodes}) => nodes.map(({html, failureSummary}) => [id, html, failureSummary])))"""
OPEN_ALL = """document.querySelectorAll("details").forEach((part) => (part.open = true));
new Promise((done) => setTimeout(done, 300))"""


class Browser:
    """One browser with one tab. `errors` lists the console errors of the page, `requests` the URLs it requested."""

    def __init__(self, profile: Path):
        ours_out, ours_in = self._start(profile)
        self._out, self._in = ours_out, ours_in
        self._waiting, self._number, self._session = b"", 0, None
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _start(self, profile: Path) -> tuple[int, int]:
        """Chromium reads descriptor 3 and writes descriptor 4."""
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs_in, theirs_out)]  # clear of 3 and 4
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
        command = ["bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", str(PROGRAM), *flags]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"], pass_fds=high, stdout=quiet, stderr=quiet
        )
        for end in (theirs_in, theirs_out, *high):
            os.close(end)
        return ours_out, ours_in

    def close(self) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(PATIENCE_S)
        os.close(self._out)
        os.close(self._in)

    def _receive(self) -> dict[str, Any]:
        deadline_s = time.monotonic() + PATIENCE_S
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._in], [], [], max(deadline_s - time.monotonic(), 0))
            received = os.read(self._in, 1 << 16) if ready else b""
            assert received, "the browser has ended or does not answer"
            self._waiting += received
        raw, _, self._waiting = self._waiting.partition(b"\0")
        message = json.loads(raw)
        event, params = message.get("method"), message.get("params", {})
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.errors.append(str(params["args"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        return message

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path, width_px: int, height_px: int = 900, *, scheme: str = "light", media: str = "") -> None:
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": width_px < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self._loaded, self.errors[:], self.requests[:] = False, [], []
        self.call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._receive()
        self.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")

    def run(self, script: str) -> Any:
        """Evaluate a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def mouse(self, kind: str, x_px: float, y_px: float) -> None:
        pressed = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
        self.call("Input.dispatchMouseEvent", type=kind, x=x_px, y=y_px, **pressed)

    def click(self, x_px: float, y_px: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, x_px, y_px)

    def press(self, key: str) -> None:
        """Press Tab or Enter."""
        codes = {"Tab": {"windowsVirtualKeyCode": 9}, "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"}}
        for kind in ("keyDown" if "text" in codes[key] else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **codes[key])

    def screenshot(self, path: Path, *, whole: bool = True) -> Path:
        """Save a picture of the whole page, or of the window only."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        more = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **more)["data"]))
        return path

    def print(self, path: Path) -> Path:
        """Save the page as it is printed on A4."""
        a4_in = {"paperWidth": 8.27, "paperHeight": 11.69}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True, **a4_in)["data"]))
        return path
