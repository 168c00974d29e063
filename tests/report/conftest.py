"""A browser for the HTML pages: they are tested by clicking through them in headless Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


class Visitor:
    """Someone who looks at the page, with mouse and keys."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def settle(self) -> None:
        """Waits until what was done has come to the page: Chromium hands over movements of the mouse once a frame."""
        self.browser.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))"
        )

    def all(self, selector: str) -> list[Any]:
        self.settle()
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        self.settle()
        return self.browser.find_element("css selector", selector)

    def ask(self, script: str) -> Any:
        self.settle()
        return self.browser.execute_script(f"return {script}")

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def hover(self, element: Any) -> None:
        from selenium.webdriver import ActionChains

        # Scrolling puts the zoom away a frame later, so it comes first; and a mouse that is there already says nothing.
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        actions = ActionChains(self.browser)
        actions.w3c_actions.pointer_action.move_to_location(1, 1)
        actions.perform()
        self.settle()
        ActionChains(self.browser).move_to_element(element).perform()

    def choose(self, name: str, text: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(f"#{name}")).select_by_visible_text(text)

    def screen(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    @staticmethod
    def contrast(first: str, second: str) -> float:
        """WCAG's ratio of two colours given as ``rgb(r, g, b)``."""
        bright = []
        for colour in (first, second):
            channels = np.array(re.findall(r"[\d.]+", colour)[:3], float) / 255
            linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
            bright.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
        return max(bright) / min(bright)


@pytest.fixture
def visit(browser: Any, page: Path) -> Iterator[Callable[..., Visitor]]:
    """Opens the module's ``page``; afterwards nothing may have gone wrong in it."""

    def visit(path: Path = page, **screen: Any) -> Visitor:
        visitor = Visitor(browser)
        visitor.screen(**{"width": 1200, "height": 800, **screen})
        browser.get(path.as_uri())
        return visitor

    yield visit
    assert browser.get_log("browser") == []
