"""``hubthread top``: the figures of a hub's monitor page in a terminal, every two seconds.

Layer: top.  Threads: the main thread asks the monitor and prints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from hubthread.errors import HubThreadError, WrongValue
from hubthread.hub.overview import CLIENT_SORTS, ROOM_SORTS
from hubthread.terminal import clean

__all__ = ["add_command", "lines"]

PACE = 2.0
PATIENCE = 10.0

_BOLD, _RED, _GREY = "1", "31", "90"
_HOME, _CLEAR = "\x1b[H", "\x1b[J"
_SCREEN, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


class NoAnswer(HubThreadError):
    """The monitor does not answer, or refuses."""


def add_command(commands: Any) -> None:
    """Add ``top`` to the commands of the command line."""
    top = commands.add_parser(
        "top",
        help="show a hub in the terminal",
        description="Show what a hub does, from its monitor page, every two seconds.  Ctrl-C "
        "ends.",
        allow_abbrev=False,
    )
    top.set_defaults(command=run, prog=top.prog)
    top.add_argument(
        "url",
        metavar="URL",
        help="the address of the monitor page, as it is printed, with #token=",
    )
    top.add_argument("--token", help="the token, if the URL has none")
    top.add_argument(
        "--clients",
        metavar="ORDER",
        choices=tuple(CLIENT_SORTS),
        help=f"sort the clients by one of {', '.join(CLIENT_SORTS)}",
    )
    top.add_argument(
        "--rooms",
        metavar="ORDER",
        choices=tuple(ROOM_SORTS),
        help=f"sort the rooms by one of {', '.join(ROOM_SORTS)}",
    )
    top.add_argument("--once", action="store_true", help="print once, and exit")


def run(chosen: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    source = Source(chosen.url, chosen.token, chosen.clients, chosen.rooms)
    shows = sys.stdout.isatty() and not chosen.once
    colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    if not shows:
        size = shutil.get_terminal_size((120, 50))
        text = lines(source.ask(), size.columns, size.lines, colours=colours)
        sys.stdout.write("\n".join(text) + "\n")
        return 0
    first = source.ask()  # before the screen changes, so that an error stays readable
    sys.stdout.write(_SCREEN)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(source, first, colours)
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()
    return 0


def _watch(source: Source, data: dict[str, Any], colours: bool) -> None:
    pause = threading.Event()
    while True:
        began = time.monotonic()
        size = shutil.get_terminal_size()
        text = lines(data, size.columns, size.lines, colours=colours)
        sys.stdout.write(_HOME + "\x1b[K\r\n".join(text) + "\x1b[K" + _CLEAR)
        sys.stdout.flush()
        pause.wait(max(0.1, PACE - (time.monotonic() - began)))
        try:
            data = source.ask()
        except NoAnswer as error:
            data = {**data, "trouble": str(error)}


class Source:
    """The figures of a monitor page.

    :param url: the address of the page.  The token may follow it, after ``#token=``.
    :param token: the token, if the address has none.
    :param clients: the order of the clients; None for that of the page.
    :param rooms: the order of the rooms; None for that of the page.
    :raises WrongValue: for an address that is not of HTTP.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        clients: str | None = None,
        rooms: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise WrongValue(f"expected an address such as http://127.0.0.1:8001/, got {url!r}")
        if token is None and parts.fragment.startswith("token="):
            token = parts.fragment.removeprefix("token=")
        path = parts.path if parts.path.endswith("/") else f"{parts.path}/"
        query = {"clients.sort": clients, "rooms.sort": rooms, "clients.size": "100"}
        wanted = urlencode({name: value for name, value in query.items() if value})
        self._url = urlunsplit((parts.scheme, parts.netloc, f"{path}data", wanted, ""))
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # Follow no redirect: it would take the token to another server.
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._next = 0

    def ask(self) -> dict[str, Any]:
        """Return the figures.

        :raises NoAnswer: if the monitor does not answer, or refuses.
        """
        request = urllib.request.Request(f"{self._url}&after={self._next}", headers=self._headers)
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                found: Any = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(200).decode("utf-8", "replace")
            raise NoAnswer(f"the monitor answers {error.code}: {clean(text)}") from None
        except (OSError, ValueError) as error:
            raise NoAnswer(f"the monitor does not answer: {clean(error)}") from None
        if not isinstance(found, dict) or "samples" not in found:
            raise NoAnswer("this is not the page of a monitor")
        self._next = max(0, found["samples"]["next"] - 1)
        return dict(found)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


# The screen.

Column = tuple[str, Callable[[dict[str, Any]], str]]

CLIENTS: tuple[Column, ...] = (
    ("CLIENT", lambda row: str(row["id"])),
    ("ADDRESS", lambda row: row["peer"]),
    ("USER", lambda row: row["user"] or "-"),
    ("AGE", lambda row: seconds(row["age"])),
    ("IN", lambda row: count(row["received"])),
    ("OUT", lambda row: count(row["sent"])),
    ("WAITS", lambda row: count(row["waiting"])),
    ("BYTES", lambda row: size_of(row["bytes"])),
    ("DROPPED", lambda row: count(row["dropped"])),
    ("ROOMS", lambda row: count(row["rooms"])),
)
ROOMS: tuple[Column, ...] = (
    ("ROOM", lambda row: row["name"] or str(row["id"])),
    ("KIND", lambda row: row["kind"] or "-"),
    ("MEMBERS", lambda row: count(row["members"])),
    ("PUSHES", lambda row: count(row["pushes"])),
    ("LAGGING", lambda row: count(row["lagging"])),
    (
        "RATE",
        lambda row: (
            "-" if not row["ticking"] else "paused" if row["paused"] else f"{row['hz']:g} Hz"
        ),
    ),
    ("LOAD", lambda row: percent(row.get("load"))),
    ("WORK", lambda row: seconds(row.get("work"))),
    ("LATE", lambda row: seconds(row.get("late"))),
    ("SKIPPED", lambda row: count(row.get("skipped"))),
)
_LEFT = frozenset({"ADDRESS", "USER", "ROOM", "KIND"})
_WIDEST = 28


def lines(data: dict[str, Any], width: int, height: int, *, colours: bool = False) -> list[str]:
    """Return the figures as lines that fit a terminal."""

    def paint(text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if colours else text

    hub, now = data["hub"], data["now"]
    last = {name: values[-1] for name, values in data["samples"]["columns"].items() if values}
    rate = {name: last.get(name, 0.0) for name in data["samples"]["columns"]}
    found = [
        paint(
            _fit(
                f"{hub['name']}: {hub['state']}, up {seconds(hub['up'])}, hubthread "
                f"{hub['version']}, Python {hub['python']}, process {hub['process']}",
                width,
            ),
            _BOLD,
        )
    ]
    if "trouble" in data:
        found.append(paint(_fit(data["trouble"], width), _RED))
    figures = (
        f"clients {count(now['clients'])}   rooms {count(now['hotlines'])}   "
        f"in {per_second(rate['received'])}   out {per_second(rate['sent'])}   "
        f"waits {size_of(rate['waiting_bytes'])} for {count(rate['lagging'])}   "
        f"dropped {per_second(rate['dropped'])}   cpu {percent(rate['cpu'])}"
    )
    hub_and_ticks = (
        f"queue {count(now['queue_depth'])}, the oldest for {seconds(now['queue_age'])}   "
        f"present job {seconds(now['closure_running'])}   "
        f"ticks {per_second(rate['ticks'])}   load {percent(rate['load'])}   "
        f"late {seconds(rate['late'])}   skipped {per_second(rate['skipped'])}"
    )
    found += [_fit(figures, width), _fit(hub_and_ticks, width)]
    nodes = data.get("nodes", ())  # an older hub sends no nodes
    if nodes:
        hubs = ", ".join(
            f"{node['name']} {count(node['clients'])}"
            + ("" if node["state"] == "running" else f" ({node['state']})")
            for node in nodes
        )
        clients = count(sum(node["clients"] for node in nodes))
        text = f"cluster of {count(len(nodes))} hubs   clients {clients}   {hubs}"
        found.append(_fit(text, width))
    for each in data["stuck"]["shown"][:5]:
        where = [line.strip() for line in each["stack"].splitlines()[-2:]]
        text = f"stuck for {seconds(each['seconds'])}: {each['name']}: {'  '.join(where)}"
        found.append(paint(_fit(text, width), _RED))
    rest = max(0, height - len(found) - 6)
    room_rows = data["rooms"]["rows"][: max(rest // 2, rest - len(data["clients"]["rows"]))]
    client_rows = data["clients"]["rows"][: rest - len(room_rows)]
    for what, columns, rows in (
        ("clients", CLIENTS, client_rows),
        ("rooms", ROOMS, room_rows),
    ):
        part = data[what]
        title = f"{len(rows)} of {count(part['found'])} {what}, by {part['sort']}"
        found += ["", paint(_fit(title, width), _GREY)]
        if rows:
            head, *body = _table(columns, rows, width)
            found += [paint(head, _BOLD), *body]
    return found[:height]


def _table(columns: Sequence[Column], rows: list[dict[str, Any]], width: int) -> list[str]:
    cells = [[name for name, _ in columns]]
    cells += [[clean(text(row))[:_WIDEST] for _, text in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    found = []
    for line in cells:
        parts = [
            text.ljust(wide) if name in _LEFT else text.rjust(wide)
            for text, wide, (name, _) in zip(line, widths, columns, strict=True)
        ]
        found.append(_fit("  ".join(parts).rstrip(), width))
    return found


def _fit(text: str, width: int) -> str:
    """Return the text without control characters, cut to the width."""
    text = clean(text)
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def count(number: float | None) -> str:
    """Return a number of things as text."""
    return "-" if number is None else f"{number:,.0f}"


def per_second(number: float) -> str:
    """Return a rate as text."""
    return f"{number:,.0f}/s" if number >= 10 or not number else f"{number:.2g}/s"


def percent(share: float | None) -> str:
    """Return a share, where 1 is all, as text."""
    return "-" if share is None else f"{share * 100:.3g} %"


def size_of(number: float) -> str:
    """Return a number of bytes as text."""
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.1f} GB"


def seconds(number: float | None) -> str:
    """Return a number of seconds as text."""
    if number is None:
        return "-"
    if number < 1:
        return f"{number * 1000:.3g} ms"
    if number < 120:
        return f"{number:.3g} s"
    if number < 7200:
        return f"{number / 60:.0f} min"
    return f"{number / 3600:.0f} h"
