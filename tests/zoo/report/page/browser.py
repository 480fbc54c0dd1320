"""A headless Chromium for the tests, driven over its own debugging protocol.

https://chromedevtools.github.io/devtools-protocol/ describes the commands and events.
"""

import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PROGRAM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)  # fmt: skip
_PATIENCE = 60.0
COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded")


@contextmanager
def chromium(profile):
    """Yield a page in a browser of its own, whose profile is an empty folder."""
    command = [PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port, path = _address(process, profile / "DevToolsActivePort")
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as socket:
            browser = Page(socket)
            target = browser.send("Target.createTarget", url="about:blank")["targetId"]
            page = Page(
                socket,
                browser.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"],
            )
            for domain in ("Page", "Runtime", "Log", "Network"):
                page.send(f"{domain}.enable")
            try:
                yield page
            finally:
                with suppress(ConnectionClosed):  # it hangs up while it closes
                    browser.send("Browser.close")
    finally:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process, file):
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if file.exists() and (lines := file.read_text().splitlines())[1:]:
            return lines[0], lines[1]
        time.sleep(0.05)
    raise RuntimeError(
        f"expected {PROGRAM} to open a port for debugging within {_PATIENCE:g} s, it did not"
    )


class Page:
    """One tab: what it shows, what it complains about, and what it asks the network for."""

    def __init__(self, socket, session=None):
        self._socket, self._session, self._numbers = socket, session, itertools.count(1)
        self.problems, self.requests, self._loaded = [], set(), False

    def send(self, method, **parameters):
        """Send a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            # browser and tab share the socket, so that their numbers must differ
            number += 1_000_000
            message |= {"id": number, "sessionId": self._session}
        self._socket.send(json.dumps(message))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self):
        answer = json.loads(self._socket.recv(timeout=_PATIENCE))
        event, parameters = answer.get("method"), answer.get("params", {})
        is_heard = parameters.get("type") in ("error", "warning")
        if event in COMPLAINTS or (event == "Runtime.consoleAPICalled" and is_heard):
            self.problems.append(parameters)
        elif event == "Network.requestWillBeSent":
            self.requests.add(parameters["request"]["url"])
        elif event == "Page.loadEventFired":
            self._loaded = True
        return answer

    def open(self, address):
        """Load an address and wait until the page has drawn."""
        # the blank page first: another fragment of the same page would not load it again
        for place in ("about:blank", str(address)):
            self._loaded = False
            self.problems.clear()
            self.requests.clear()
            self.send("Page.navigate", url=place)
            while not self._loaded:
                self._receive()
        self.settle()

    def settle(self):
        """Wait until what a script has asked for is drawn."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def evaluate(self, expression):
        """Return the value of a JavaScript expression; a promise is waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")
