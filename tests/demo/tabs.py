"""Tabs of one Chromium."""

from __future__ import annotations

from collections.abc import Callable

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_S = 60.0
"""Seconds for one condition; only a failing test waits that long."""


def not_missing(error: str) -> bool:
    """Return False for an error that only says that the server is not there."""
    missing = ("WebSocket connection to", "ERR_CONNECTION_", "ERR_SOCKET_NOT_CONNECTED")
    return not any(text in error for text in missing)


class Tab:
    """One tab of the browser; each call brings it to the front."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self._driver = driver
        driver.switch_to.new_window("tab")
        self._handle = driver.current_window_handle
        driver.get(url)

    def __getitem__(self, selector: str) -> WebElement:
        """Return the first element that matches."""
        self._front()
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that match, in one call."""
        self._front()
        found: list[str] = self._driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(each => each.textContent)",
            selector,
        )
        return found

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition()`` is true."""
        self._front()
        WebDriverWait(self._driver, PATIENCE_S, poll_frequency=0.05).until(lambda _: condition())

    def until_texts(self, selector: str, *texts: str) -> None:
        """Wait until the elements have exactly these texts."""
        self.until(lambda: self.texts(selector) == list(texts))

    def close(self) -> None:
        """Close the tab, as a user would."""
        self._front()
        self._driver.close()
        self._driver.switch_to.window(self._driver.window_handles[0])

    def back(self) -> None:
        """Press the browser's back button."""
        self._front()
        self._driver.back()

    def trouble(self) -> list[str]:
        """Return the console's errors and broken policies since the last call."""
        self._front()
        entries = self._driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]

    def _front(self) -> None:
        if self._driver.current_window_handle != self._handle:
            self._driver.switch_to.window(self._handle)
