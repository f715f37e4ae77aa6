"""A person at the chat page: asks in a real browser, and takes a picture of the answer.

    python chat_browser.py CHROMIUM URL QUESTION ANSWER PICTURE

Runs with the environment of scripts/requirements/browser.txt. Prints the hosts that the page asked for anything.
"""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright


def main(chromium: str, url: str, question: str, answer: str, picture: str) -> None:
    """Ask, wait for the answer, take the picture."""
    hosts = set()
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": 1000, "height": 560})
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(url)
        # Open WebUI first tells an administrator what is new.
        page.get_by_text("Okay, Let's Go!").click()
        page.locator("#chat-input").click()
        page.keyboard.type(question)
        page.keyboard.press("Enter")
        page.get_by_text(answer).wait_for(timeout=60_000)
        page.wait_for_timeout(5_000)  # until its notices are gone, and it would have asked for a title
        page.screenshot(path=picture)
        browser.close()
    print(json.dumps(sorted(hosts - {""})))


if __name__ == "__main__":
    main(*sys.argv[1:])
