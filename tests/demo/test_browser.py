"""The chat's page in a real Chromium.

The tabs share one browser, driven from the test's thread; the server runs in this process.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from hubthread.demo import chat
from tests.demo import tabs
from tests.demo.running import HOST, Running
from tests.demo.tabs import not_missing
from tests.support.redis_server import Proxy

pytestmark = pytest.mark.browser


class Tab(tabs.Tab):
    """A tab with the chat in it."""

    def enter(self, nick: str, room: str | None = None) -> None:
        """Fill in the form and wait for the room."""
        self.until(self["#nick"].is_displayed)
        self["#nick"].send_keys(nick)
        if room is not None:
            self["#room"].clear()
            self["#room"].send_keys(room)
        self["#join .primary"].click()
        self.until(self["#text"].is_displayed)

    def say(self, text: str) -> None:
        """Type a message and press Enter."""
        self["#text"].send_keys(text + Keys.ENTER)


def test_chat_page_two_tabs_chat(driver: webdriver.Chrome, running: Running) -> None:
    ada = Tab(driver, running.server.http_url)
    ada.enter("ada")
    grace = Tab(driver, running.server.http_url)
    grace.until_texts("#offers button", "lobby · 1")
    grace.enter("grace")
    ada.until_texts("#people .name", "ada", "grace")
    ada.say("Hello, Grace!")
    grace.until_texts("#messages .text", "Hello, Grace!")
    grace.say("Hello, Ada!")
    ada.until_texts("#messages .text", "Hello, Grace!", "Hello, Ada!")
    assert ada.texts("#messages .who") == ["ada", "grace"]
    assert "grace came in" in ada.texts("#messages .notice")
    ada.until_texts("#rooms button", "lobby2")
    # The statistics: two connections, in one room each, and nothing waits.
    ada.until(
        lambda: ada.texts("#connections td:first-child small") == ["#1 · lobby", "#2 · lobby"]
    )
    assert ada.texts("#connections td:nth-child(4)") == ["0", "0"]
    assert ada.texts("#connections td:nth-child(5)") == ["1", "1"]
    assert ada.trouble() == []
    assert grace.trouble() == []


def test_chat_page_tags_stay_text(driver: webdriver.Chrome, running: Running) -> None:
    image, script = "<img src=x onerror=alert(1)>", "<script>alert(2)</script>"
    ada = Tab(driver, running.server.http_url)
    ada.enter("ada", room="<b>bold</b>")
    mallory = Tab(driver, f"{running.server.http_url}?room=%3Cb%3Ebold%3C%2Fb%3E")
    mallory.enter(image)
    mallory.say(script)
    mallory.say(image)
    for tab in (ada, mallory):
        tab.until_texts("#messages .text", script, image)
        assert tab.texts("#messages .who") == [image]
        tab.until_texts("#people .name", "ada", image)
        assert tab.texts("#room-name") == ["<b>bold</b>"]
        assert tab.texts("#rooms .name") == ["<b>bold</b>"]
        assert tab.texts("body img, body script, body b, td *:not(small)") == []
        # An alert would fail the calls above; the policy would complain here.
        assert tab.trouble() == []


def test_chat_page_reconnects_after_restart(driver: webdriver.Chrome, running: Running) -> None:
    ada = Tab(driver, running.server.http_url)
    ada.enter("ada")
    ada.say("before")
    ada.until_texts("#messages .text", "before")
    running.stop()
    ada.until(shows_state(ada, "waiting"))
    ada.until(ada["#retry"].is_displayed)  # not while it tries
    assert not ada["#send"].is_enabled()
    ada["#text"].send_keys("written meanwhile")
    running.start()
    ada.until(shows_state(ada, "open"))
    ada.until(ada["#send"].is_enabled)
    restarted = "Connected again: the server was restarted, and has forgotten this room"
    ada.until(lambda: restarted in ada.texts("#messages .notice"))
    ada["#text"].send_keys(Keys.ENTER)
    ada.until_texts("#messages .text", "before", "written meanwhile")
    ada.until_texts("#people .name", "ada")
    # The only errors in the console are those of the missing server.
    assert [each for each in ada.trouble() if not_missing(each)] == []


def test_chat_page_lost_line_within_the_grace_shows_what_was_missed(
    driver: webdriver.Chrome, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "GRACE", 2 * tabs.PATIENCE_S)  # the page may wait long between tries
    tunnel = Proxy((HOST, running.port))
    try:
        ada = Tab(driver, running.server.http_url)
        ada.enter("ada")
        grace = Tab(driver, f"http://127.0.0.1:{tunnel.port}/")
        grace.enter("grace")
        grace.say("into the tunnel")
        ada.until_texts("#messages .text", "into the tunnel")
        tunnel.refuse(True)
        tunnel.cut()
        grace.until(shows_state(grace, "waiting"))
        assert not grace["#send"].is_enabled()
        ada.say("are you there?")
        ada.say("hello?")
        ada.until_texts("#messages .text", "into the tunnel", "are you there?", "hello?")
        tunnel.refuse(False)
        grace.until_texts("#messages .text", "into the tunnel", "are you there?", "hello?")
        # The notice stands above what was missed, and nobody has noticed the loss.
        assert grace.texts("#messages li")[-3] == "Connected again: you have missed 2 messages"
        assert ada.texts("#messages .notice") == ["You are in lobby", "grace came in"]
        ada.until_texts("#people .name", "ada", "grace")
        grace.say("here again")
        ada.until(lambda: "here again" in ada.texts("#messages .text"))
        assert [each for each in grace.trouble() if not_missing(each)] == []
    finally:
        tunnel.close()


def shows_state(tab: Tab, state: str) -> Callable[[], bool]:
    return lambda: tab["#chat [data-state-line]"].get_attribute("data-state") == state


def test_chat_page_rooms_have_addresses(driver: webdriver.Chrome, running: Running) -> None:
    ada = Tab(driver, f"{running.server.http_url}?room=tea")
    ada.until(lambda: ada["#room"].get_attribute("value") == "tea")
    ada.enter("ada")
    ada["#other-room"].send_keys("cake" + Keys.ENTER)
    ada.until_texts("#room-name", "cake")
    assert driver.current_url.endswith("?room=cake")
    ada.until_texts("#rooms .name", "cake")
    ada.back()
    ada.until_texts("#room-name", "tea")
    # A reload keeps the user and the room.
    driver.refresh()
    ada.until_texts("#room-name", "tea")
    ada.until_texts("#people .name", "ada")
    assert ada.trouble() == []


def test_chat_page_shows_errors(driver: webdriver.Chrome, running: Running) -> None:
    ada = Tab(driver, running.server.http_url)
    ada.until(ada["#nick"].is_displayed)
    ada["#join .primary"].click()
    ada.until_texts("#join-error", "Give yourself a name.")
    ada["#nick"].send_keys("a\u202eda" + Keys.ENTER)
    ada.until_texts("#join-error", "nick: 1 to 32 printable characters")
    ada["#nick"].clear()
    ada.enter("ada")
    # Over the limit of the page's field, as another program would.
    driver.execute_script("document.getElementById('text').removeAttribute('maxlength')")
    driver.execute_script("document.getElementById('text').value = 'a'.repeat(2001)")
    ada["#send"].click()
    ada.until_texts("#say-error", "text: 1 to 2,000 characters")
    assert ada.trouble() == []


def test_chat_page_narrow_works_with_keyboard(driver: webdriver.Chrome, running: Running) -> None:
    driver.set_window_size(500, 800)  # the narrowest window there is
    ada = Tab(driver, running.server.http_url)
    ada.until(ada["#nick"].is_displayed)
    ada["#nick"].send_keys("ada" + Keys.ENTER)
    ada.until(ada["#text"].is_displayed)
    assert not ada["#people"].is_displayed()
    ada["#show-figures"].send_keys(Keys.ENTER)
    ada.until(ada["#people"].is_displayed)
    assert ada["#show-figures"].get_attribute("aria-expanded") == "true"
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    ada.until(lambda: not ada["#people"].is_displayed())
    assert driver.switch_to.active_element == ada["#show-figures"]
    ada["#show-rooms"].send_keys(Keys.ENTER)
    ada.until(ada["#rooms"].is_displayed)
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert ada.trouble() == []
