"""Tabs of one Chromium, as the demo's tests hold them."""

from __future__ import annotations

from collections.abc import Callable

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_S = 60.0
"""For one condition; only a failing test waits that long."""


class Tab:
    """One tab of the browser; each call makes it the one in front."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self._driver = driver
        driver.switch_to.new_window("tab")
        self._handle = driver.current_window_handle
        driver.get(url)

    def __getitem__(self, selector: str) -> WebElement:
        """The first element that matches."""
        self._front()
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The text of all that matches, in one look."""
        self._front()
        found: list[str] = self._driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)",
            selector,
        )
        return found

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until it is true."""
        self._front()
        WebDriverWait(self._driver, PATIENCE_S, poll_frequency=0.05).until(lambda _: condition())

    def until_texts(self, selector: str, *texts: str) -> None:
        """Wait until just these are there."""
        self.until(lambda: self.texts(selector) == list(texts))

    def close(self) -> None:
        """Close the tab, as a user would."""
        self._front()
        self._driver.close()
        self._driver.switch_to.window(self._driver.window_handles[0])

    def back(self) -> None:
        """The browser's button."""
        self._front()
        self._driver.back()

    def trouble(self) -> list[str]:
        """What the console says of errors and broken rules, since the last call."""
        self._front()
        entries = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]

    def _front(self) -> None:
        if self._driver.current_window_handle != self._handle:
            self._driver.switch_to.window(self._handle)
