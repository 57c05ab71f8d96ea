#!/usr/bin/env python3
"""Drives the page of chat_llama serve in headless Chromium: asks, streams, stops, begins a new chat.

  chat_llama serve -m MODEL --port 8000 &
  tools/judge_page.py [--url http://127.0.0.1:8000] [--chromium chromium] [--pictures FOLDER]

needs Chromium and `pip install websocket-client`. The exit code is 1 where something failed.
"""
import argparse
import base64
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import websocket


class Browser:
    """A page of headless Chromium over the DevTools protocol."""

    def __init__(self, chromium, pictures):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--remote-debugging-port=0", "--remote-allow-origins=*",
             "--user-data-dir=" + self.folder.name, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = pathlib.Path(self.folder.name, "DevToolsActivePort")
        until(port_file.exists, 120)
        until(lambda: port_file.read_text().strip(), 10)
        self.port = port_file.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json") as reply:
            page = next(t for t in json.load(reply) if t["type"] == "page")
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=120)
        self.number = 0
        self.errors = []  # of the page's scripts, and what its policy refused
        self.asked = []   # addresses that it loaded
        self.pictures = pictures
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(domain + ".enable")

    def call(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"].get("text", "?"))
            if message.get("method") == "Log.entryAdded":
                if message["params"]["entry"]["level"] == "error":
                    self.errors.append(message["params"]["entry"]["text"])
            if message.get("method") == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
            if message.get("id") == self.number:
                return message.get("result", {})

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True,
                           returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(script + ": " + str(result["exceptionDetails"]))
        return result["result"].get("value")

    def type(self, text):
        self.call("Input.insertText", text=text)

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, text="\r",
                      windowsVirtualKeyCode=code)

    def picture(self, name, width=1100, height=760, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        data = self.call("Page.captureScreenshot", format="png")["data"]
        if self.pictures:
            pathlib.Path(self.pictures, name + ".png").write_bytes(base64.b64decode(data))

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


def until(holds, seconds=60):
    end = time.time() + seconds
    while not holds():
        if time.time() > end:
            raise TimeoutError
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--pictures", help="folder for screenshots")
    args = parser.parse_args()
    if args.pictures:
        pathlib.Path(args.pictures).mkdir(parents=True, exist_ok=True)
    failed = []

    def check(what, holds, found=""):
        print(("ok    " if holds else "FAIL  ") + what, found, flush=True)
        if not holds:
            failed.append(what)

    browser = Browser(args.chromium, args.pictures)
    try:
        browser.call("Page.navigate", url=args.url + "/")
        until(lambda: browser.run("document.readyState") == "complete" and
              browser.run("at('model').textContent"))
        check("opens and names the model", True, browser.run("at('model').textContent"))
        browser.picture("1-empty")
        set_value = "at('{0}').value = '{1}'; at('{0}').dispatchEvent(new Event('change'));"
        browser.run("at('open').click()")
        browser.run(set_value.format("temperature", "0") + set_value.format("max_tokens", "40"))
        browser.picture("2-settings")
        browser.run("at('open').click()")
        last = "[...document.querySelectorAll('.turn.assistant .words')].pop()?.textContent ?? ''"
        idle = "running === null"

        browser.run("at('ask').focus()")
        browser.type("Which planet do we live on?")
        browser.key("Enter", 13)
        lengths = set()

        def grown():
            lengths.add(len(browser.run(last)))
            return browser.run(idle)
        until(grown, 180)
        check("Enter asks, the answer streams", len(lengths) > 3, repr(browser.run(last)))
        check("the meter shows the cache", "/" in browser.run("at('count').textContent") and
              not browser.run("at('count').textContent").startswith("0"),
              browser.run("at('count').textContent"))
        browser.picture("3-answer")

        browser.run("at('ask').focus()")
        browser.type("And what is its moon called?")
        browser.run("at('form').requestSubmit()")
        until(lambda: browser.run(idle), 180)
        old = browser.run("parseFloat(document.querySelector('#meter .old').style.width)")
        check("a second turn reads from the cache", old > 0, f"{old:.2f} % of the context")
        browser.picture("4-second", dark=True)

        browser.run(set_value.format("max_tokens", "2000"))
        browser.run("at('ask').value = 'Write a long story about a river.';"
                    "at('form').requestSubmit()")
        until(lambda: len(browser.run(last)) > 20, 180)
        check("Stop is shown while it answers", not browser.run("at('stop').hidden") and
              browser.run("at('send').hidden"))
        browser.picture("5-streaming")
        browser.run("at('stop').click()")
        until(lambda: browser.run(idle), 10)
        text = browser.run(last)
        time.sleep(1)
        check("Stop ends it and keeps what was said", browser.run(last) == text and len(text) > 20
              and "stopped" in browser.run("[...document.querySelectorAll('.note')].pop()"
                                           ".textContent"))

        def running():
            with urllib.request.urlopen(args.url + "/metrics") as reply:
                return "mullion_requests_running 0" not in reply.read().decode()
        until(lambda: not running(), 10)
        check("and its slot is free", True)
        browser.picture("6-narrow", width=400, height=700)
        browser.run("at('new').click()")
        check("New chat is empty", browser.run("document.querySelectorAll('.turn').length") == 0
              and browser.run("turns.length") == 0)
        browser.run(set_value.format("temperature", "9"))
        browser.run("at('ask').value = 'Hello <b>there</b>'; at('form').requestSubmit()")
        until(lambda: browser.run(idle), 60)
        wrong = browser.run("document.querySelector('.turn.wrong')?.textContent ?? ''")
        check("an error is shown", "temperature" in wrong, wrong)
        check("texts are no HTML", browser.run("document.querySelectorAll('.turn b').length") == 0)
        browser.picture("7-error")
        expected = [e for e in browser.errors if "400" not in e]
        check("no error in the scripts", not expected, expected)
        elsewhere = [a for a in browser.asked
                     if not a.startswith((args.url, "data:", "about:"))]
        check("nothing is loaded from elsewhere", not elsewhere, elsewhere)
    finally:
        browser.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
