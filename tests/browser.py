"""A real browser that opens a page: Chromium, told what to do by the DevTools protocol through a pipe."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
DOMAINS = ("Page", "Network", "Runtime", "Log")
TOLD = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")


class Opened(NamedTuple):
    """What came of opening a page."""

    requests: list[str]  # URLs
    errors: list[str]  # what the console says
    values: list  # of the expressions


class Browser:
    """One process; `open` may be called many times."""

    def __init__(self, folder: Path) -> None:
        theirs, self._write = os.pipe()
        self._read, back = os.pipe()
        start = f'exec "$@" 3<&{theirs} 4>&{back}'
        command = ["bash", "-c", start, "browser", CHROMIUM, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, pass_fds=(theirs, back), **quiet)
        os.close(theirs)
        os.close(back)
        self._number, self._bytes, self._events = 0, b"", []
        target = self._call("Target.createTarget", None, url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", None, targetId=target, flatten=True)["sessionId"]
        for domain in DOMAINS:
            self._call(f"{domain}.enable")

    def open(self, file: Path, *expressions: str, width: int = 1280, scheme: str = "light") -> Opened:
        """Open a file, and evaluate JavaScript in it."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._events.clear()
        self._call("Page.navigate", url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._events.append(self._receive())
        values = [
            self._call("Runtime.evaluate", expression=each, returnByValue=True)["result"].get("value")
            for each in expressions
        ]
        requests = [each["params"] for each in self._events if each["method"] == "Network.requestWillBeSent"]
        errors = [json.dumps(each["params"]) for each in self._events if each["method"] in TOLD]
        return Opened([each["request"]["url"] for each in requests], errors, values)

    def close(self) -> None:
        """End the process."""
        self._call("Browser.close", None)
        self._process.wait(20)
        os.close(self._read)
        os.close(self._write)

    def _call(self, method: str, session: str | None = "", **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self):
        while b"\0" not in self._bytes:
            received = os.read(self._read, 2**20)
            assert received, "the browser has ended"
            self._bytes += received
        message, _, self._bytes = self._bytes.partition(b"\0")
        return json.loads(message)
