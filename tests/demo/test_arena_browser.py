"""The arena's page in a real Chromium.

The positions of the discs are read from the canvas itself.
"""

from __future__ import annotations

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from hubthread.demo import arena
from hubthread.demo.arena import Frame, Game
from hubthread.demo.field import Rules
from tests.demo import tabs
from tests.demo.running import SMALL, Running
from tests.demo.tabs import not_missing

pytestmark = pytest.mark.browser

WIDTH, HEIGHT, RADIUS = SMALL.width, SMALL.height, SMALL.radius

# Return true if the disc of a player is drawn around a point of the field.  It has the colour of
# the avatar in the list, and is read beside its middle, where there is no letter.
DRAWN = """
const [nick, x, y, radius, width, height] = arguments;
const item = [...document.querySelectorAll("#players li")]
  .find((each) => each.querySelector(".name").textContent === nick);
if (!item) return false;
const one = document.createElement("canvas").getContext("2d");
one.fillStyle = getComputedStyle(item.querySelector(".avatar")).backgroundColor;
one.fillRect(0, 0, 1, 1);
const colour = [...one.getImageData(0, 0, 1, 1).data];
const field = document.getElementById("field");
const at = [[-0.75, 0], [0.75, 0], [0, -0.75], [0, 0.75]].map(([dx, dy]) =>
  [...field.getContext("2d").getImageData(
    Math.round((x + dx * radius) * field.width / width),
    Math.round((y + dy * radius) * field.height / height), 1, 1).data]);
return at.every((seen) => seen.every((part, place) => Math.abs(part - colour[place]) <= 3));
"""


class Tab(tabs.Tab):
    """A tab with the arena in it."""

    def enter(self, nick: str) -> None:
        """Fill the form in, and wait for the field."""
        self.until(self["#nick"].is_displayed)
        self["#nick"].send_keys(nick + Keys.ENTER)
        self.until(self["#field"].is_displayed)
        self.until(lambda: nick in self.texts("#players .name"))

    def hold(self, *keys: str) -> None:
        """Press keys, and keep them down."""
        for key in keys:
            self._act().key_down(key).perform()

    def let_go(self, *keys: str) -> None:
        """Release them."""
        for key in keys:
            self._act().key_up(key).perform()

    def draws(self, nick: str, x: float, y: float) -> bool:
        """Return True if this player's disc is drawn there."""
        self._front()
        drawn: bool = self._driver.execute_script(DRAWN, nick, x, y, RADIUS, WIDTH, HEIGHT)
        return drawn

    def total(self, name: str) -> int:
        """Return a figure of the panel, or -1 if it is not there yet."""
        figures = dict(zip(self.texts("#totals dt"), self.texts("#totals dd"), strict=False))
        return int(figures.get(name, "-1").replace(",", ""))

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Touch the field: ``touchStart``, ``touchMove``, or ``touchEnd`` without points."""
        box = self["#field"].rect
        at = [
            {"x": box["x"] + x / WIDTH * box["width"], "y": box["y"] + y / HEIGHT * box["height"]}
            for x, y in points
        ]
        self._driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    def trouble(self) -> list[str]:
        """Return the console's errors, except the warning that ``draws`` itself causes."""
        return [each for each in super().trouble() if "willReadFrequently" not in each]

    def _act(self) -> ActionChains:
        self._front()
        return ActionChains(self._driver)


def open_arena(driver: webdriver.Chrome, running: Running, nick: str) -> Tab:
    tab = Tab(driver, running.server.http_url + "arena")
    tab.enter(nick)
    return tab


LEFT, RIGHT = RADIUS, WIDTH - RADIUS
TOP, BOTTOM = RADIUS, HEIGHT - RADIUS


def test_arena_page_two_tabs_see_each_other_move(
    driver: webdriver.Chrome, running: Running
) -> None:
    ada = open_arena(driver, running, "ada")
    grace = open_arena(driver, running, "grace")
    ada.until(lambda: sorted(ada.texts("#players .name")) == ["ada", "grace"])
    ada.hold(Keys.ARROW_LEFT, "w")
    ada.until(lambda: ada.draws("ada", LEFT, TOP))
    ada.let_go(Keys.ARROW_LEFT, "w")
    grace.until(lambda: grace.draws("ada", LEFT, TOP))
    grace.hold(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    grace.until(lambda: grace.draws("grace", RIGHT, BOTTOM))
    ada.until(lambda: ada.draws("grace", RIGHT, BOTTOM))
    assert ada.texts("#note") == ["2 play"]
    assert ada.trouble() == []
    assert grace.trouble() == []


def test_arena_page_touch_steers_disc(driver: webdriver.Chrome, running: Running) -> None:
    ada = open_arena(driver, running, "ada")
    ada.touch("touchStart", (5, 5))
    ada.until(lambda: ada.draws("ada", LEFT, TOP))
    ada.touch("touchMove", (WIDTH - 5, HEIGHT - 5))
    ada.until(lambda: ada.draws("ada", RIGHT, BOTTOM))
    ada.touch("touchEnd")
    assert ada.trouble() == []


STALLED = """
const stall = document.getElementById("stall");
new MutationObserver(() => { window.stalled ||= stall.disabled; })
  .observe(stall, { attributes: true });
"""
"""Notes that the button was disabled: it is for two seconds only."""


def test_arena_page_stall_shows_skipped_ticks(driver: webdriver.Chrome, running: Running) -> None:
    ada = open_arena(driver, running, "ada")
    driver.execute_script(STALLED)
    ada["#stall"].click()
    ada.until(lambda: driver.execute_script("return window.stalled"))
    # A busy machine skips ticks without it, too.
    ada.until(lambda: float(ada.texts("#work td")[2]) >= arena.STALL * 1000)
    ada.until(lambda: ada.total("Skipped") >= int(arena.STALL * SMALL.hz) - 1)
    assert len(ada.texts("#lateness td")) == 3
    ticks = ada.total("Ticks")
    ada.until(lambda: ada.total("Ticks") > ticks)
    ada.hold("d", "w")
    ada.until(lambda: ada.draws("ada", RIGHT, TOP))
    ada.until(ada["#stall"].is_enabled)
    assert ada.trouble() == []


def test_arena_page_pause_and_resume_for_all(driver: webdriver.Chrome, running: Running) -> None:
    ada = open_arena(driver, running, "ada")
    ada["#pause"].click()
    ada.until_texts("#pause", "Resume")
    assert ada.texts("#banner") == ["Paused "]
    grace = open_arena(driver, running, "grace")  # a newcomer sees the same
    grace.until_texts("#pause", "Resume")
    grace["#pause"].click()
    ada.until_texts("#pause", "Pause")
    ada.hold("a", "s")
    ada.until(lambda: ada.draws("ada", LEFT, BOTTOM))
    assert ada.trouble() == []


def end_round(frame: Frame, game: Game) -> None:
    """End the round before its time."""
    assert game.round is not None
    assert game.round.done()
    arena.end_round(frame, game)


def test_arena_page_round_from_ready_to_end(
    driver: webdriver.Chrome, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena, "GATE", tabs.PATIENCE_S)
    ada = open_arena(driver, running, "ada")
    grace = open_arena(driver, running, "grace")
    ada["#ready"].click()
    ada.until(lambda: "Waiting for others" in ada["#ready"].text)
    assert not ada["#ready"].is_enabled()
    grace.until(lambda: "I am ready" in grace["#ready"].text)
    assert grace.texts("#news") == ["Are you ready for a round?"]
    grace["#ready"].click()
    grace.until(lambda: grace.texts("#banner")[0].startswith("Round"))
    running.site.arena.frame.exec_sync(end_round)
    grace.until(lambda: grace.texts("#news")[0].startswith("The round is over"))
    ada.until(lambda: ada.texts("#news")[0].startswith("The round is over"))
    ada.until_texts("#ready", "Play a round")
    assert ada.trouble() == []


def test_arena_page_tags_stay_text(driver: webdriver.Chrome, running: Running) -> None:
    image = "<img src=x onerror=alert(1)>"
    mallory = open_arena(driver, running, image)
    ada = open_arena(driver, running, "ada")
    for tab in (mallory, ada):
        tab.until(lambda tab=tab: image in tab.texts("#players .name"))  # type: ignore[misc]
        assert tab.texts("body img, body script") == []
        assert tab.trouble() == []
    mallory["#ready"].click()
    ada["#ready"].click()
    ada.until(lambda: image in ada.texts("#news")[0])
    assert ada.texts("body img, #news *") == []


def test_arena_page_reconnects_after_restart(driver: webdriver.Chrome, running: Running) -> None:
    ada = open_arena(driver, running, "ada")
    ada.until(lambda: ada.total("Ticks") > 5)
    running.stop()
    ada.until(lambda: ada["#arena [data-state-line]"].get_attribute("data-state") == "waiting")
    ada.until(ada["#retry"].is_displayed)  # not while it tries
    assert not ada["#ready"].is_enabled()
    running.start()
    ada.until(ada["#ready"].is_enabled)
    ada.hold("d", "s")
    ada.until(lambda: ada.draws("ada", RIGHT, BOTTOM))
    ada.until_texts("#players .name", "ada")
    # The only errors in the console are those of the missing server.
    assert [each for each in ada.trouble() if not_missing(each)] == []


def test_pages_links_keep_name(driver: webdriver.Chrome, running: Running) -> None:
    tab = Tab(driver, running.server.http_url)
    tab.until(tab["#nick"].is_displayed)
    tab["#nick"].send_keys("ada" + Keys.ENTER)
    tab.until(tab["#text"].is_displayed)
    tab["#chat .to-other"].click()
    tab.until(lambda: tab.texts("#players .name") == ["ada"])
    # Another name, in the same tab.
    tab["#leave"].click()
    tab.until(tab["#nick"].is_displayed)
    tab["#nick"].clear()
    tab["#nick"].send_keys("grace" + Keys.ENTER)
    tab.until(lambda: tab.texts("#players .name") == ["grace"])
    tab["#arena .to-other"].click()
    tab.until(lambda: driver.find_element(By.ID, "join").is_displayed())
    tab.until(lambda: tab["#nick"].get_attribute("value") == "grace")
    assert tab.trouble() == []


def test_arena_page_shows_errors(driver: webdriver.Chrome, running: Running) -> None:
    tab = Tab(driver, running.server.http_url + "arena")
    tab.until(tab["#nick"].is_displayed)
    tab["#play .primary"].click()
    tab.until_texts("#play-error", "Give yourself a name.")
    tab["#nick"].send_keys("a\u202eda" + Keys.ENTER)
    tab.until_texts("#play-error", "nick: 1 to 32 printable characters")
    assert tab.trouble() == []


def test_arena_page_narrow_stacks_panels(driver: webdriver.Chrome, running: Running) -> None:
    # No window is as narrow as the narrowest phone.
    phone = {"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    ada = open_arena(driver, running, "ada")
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        ada.until(lambda: driver.execute_script("return innerWidth === 320"))
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        below = [ada[name].location["y"] for name in ("#field", "#ready", "#totals")]
        assert below == sorted(below)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert ada.trouble() == []


def test_arena_page_slow_line_moves_own_disc_all_the_same(
    driver: webdriver.Chrome, running: Running
) -> None:
    ada = open_arena(driver, running, "ada")
    driver.execute_script("document.getElementById('delay').value = 400")
    # It is empty before the first measurement.
    ada.until(lambda: int((ada.texts("#trip")[0] or "0").split()[0]) >= 400)
    ada["#field"].click()  # the centre, to which the disc goes while the finger is down
    ada.hold("d", "w")
    ada.until(lambda: ada.draws("ada", RIGHT, TOP))
    ada.let_go("d", "w")
    ada.hold("a", "s")
    ada.until(lambda: ada.draws("ada", LEFT, BOTTOM))
    assert ada.trouble() == []


def test_arena_page_replay_shows_the_last_seconds_again(
    driver: webdriver.Chrome, running: Running
) -> None:
    ada = open_arena(driver, running, "ada")
    ada.hold("a", "w")
    ada.until(lambda: ada.draws("ada", LEFT, TOP))
    ticks = ada.total("Ticks")
    ada.until(lambda: ada.total("Ticks") > ticks + 10)  # the disc stays there for a while
    ada.let_go("a", "w")
    ada.hold("d", "s")
    ada.until(lambda: not ada.draws("ada", LEFT, TOP))
    ada["#again"].click()
    ada.until_texts("#banner", "Replay, half speed")
    ada.until(lambda: ada.draws("ada", LEFT, TOP))
    ada["#again"].click()
    ada.until_texts("#again", "Replay 10 s")
    ada.until(lambda: ada.draws("ada", RIGHT, BOTTOM))
    assert ada.trouble() == []


def test_arena_page_large_field_has_bots_and_follows_the_disc(driver: webdriver.Chrome) -> None:
    large = Running(Rules(), bots=20)
    try:
        ada = open_arena(driver, large, "ada")
        ada.until_texts("#note", "Only you play, with 20 bots")
        ada.until(lambda: sum(map(int, ada.texts("#players .score"))) > 3)
        ada.hold("d", "s")  # the corner of the field is the corner of the screen
        ada.until(lambda: ada.draws("ada", RIGHT, BOTTOM))
        assert ada.trouble() == []
    finally:
        large.stop()
