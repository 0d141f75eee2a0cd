"""A hub that owns a room, in a process of its own, which a test stops in the middle of a tick.

It prints "in the tick" in its first tick, which ends when a line comes by standard input.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

from hubthread import FrameControl, Hub, HubSetting, OwnedOption, RedisBackplane
from hubthread.core import lease

_over = threading.Event()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _logic(frame: FrameControl[dict[str, Any]], obj: dict[str, Any]) -> None:
    if obj:
        return
    obj["ticked"] = True
    number = frame.push("in time")
    assert frame._shared is not None
    assert frame._shared.wait_arrived(number, 20.0)
    _say("in the tick")
    sys.stdin.readline()
    frame.push("too late")
    _say("pushed")


def _on_orphan(frame: FrameControl[dict[str, Any]], obj: dict[str, Any]) -> None:
    frame.push("from an orphan")
    _say("orphan")
    _over.set()


def main(url: str, prefix: str, seconds: str) -> None:
    """Own the room until another hub does."""
    lease.SECONDS = float(seconds)
    lease.RENEW, lease.MARGIN = lease.SECONDS / 6, lease.SECONDS / 4
    option = OwnedOption[dict[str, Any]](dict, _logic, hz=100, on_orphan=_on_orphan)
    backplane = RedisBackplane(url, prefix=prefix)
    with Hub(HubSetting[Any, Any](dict, backplane=backplane)) as hub:
        hub.own("arena", option)
        _over.wait()
        hub.close(1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
