"""A real Chromium for whoever wants to see a page as people do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.parts.processes import LOOK_AGAIN, PATIENCE


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"], timeout=PATIENCE * 1000
            )
        except sync_api.Error as exc:
            pytest.skip(f"no Chromium can be started here: {str(exc).splitlines()[0]}")
        yield browser
        browser.close()


def wait_on(page: Any, is_so: Callable[[], bool]) -> None:
    """Until `is_so`, while the page goes on."""
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until
        page.wait_for_timeout(LOOK_AGAIN * 1000)


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A tab of a browser of its own; `problems` collects what its console says."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    yield page
    context.close()
