"""Comings and goings reach the hub and rooms, however much others send."""

from __future__ import annotations

import contextlib
import queue
from typing import Any

from hubthread import HotlineFrameOption, QueueFull
from hubthread.concurrency.essential import is_essential, run_essential
from tests.support import TIMEOUT, Gate, serving


def test_run_essential_marks_this_call_only() -> None:
    inner: list[bool] = []

    def work() -> None:
        inner.append(run_essential(is_essential))
        inner.append(is_essential())
        raise KeyError

    with contextlib.suppress(KeyError):
        run_essential(work)
    assert (inner, is_essential()) == ([True, True], False)


def fill(executor: Any) -> None:
    """Hand over closures until one is refused."""
    with contextlib.suppress(QueueFull):
        while True:
            executor.exec_async(lambda *_: None)


def test_client_that_comes_and_goes_while_queues_are_full_is_told_of() -> None:
    """Others have filled the queues of the hub and of a room with a clock."""
    players: dict[int, str] = {}
    told: queue.Queue[tuple[str, int]] = queue.Queue()

    def tell(what: str, ctx: Any) -> None:
        number = ctx.connection_id
        room.push(f"{what} {number}")
        if what == "came":
            game.exec_async(lambda frame, obj: players.update({number: "here"}))
        else:
            game.exec_async(lambda frame, obj: players.pop(number))
        game.exec_async(lambda frame, obj: told.put((f"game {what}", number)))
        s.hub.exec_async(lambda dhub: told.put((f"hub {what}", number)))

    def on_close(ctx: Any, meta: Any) -> None:
        tell("gone", ctx)
        gone.put(ctx)

    with serving(
        on_connection_start=lambda ctx, meta: tell("came", ctx),
        on_connection_close=on_close,
        chan_queue_size=2,
    ) as s:
        gone: queue.Queue[Any] = queue.Queue()
        room, gate = s.hub.hotline(), Gate()
        game = HotlineFrameOption[list[object]](list).run(s.hub.hotline())
        watcher, ctx = s.pair()
        room.answer(ctx)
        for _ in range(2):  # the queues are empty then
            told.get(timeout=TIMEOUT)
        game.exec_async(gate)
        s.hub.exec_async(gate)
        gate.reached()
        gate.reached()
        fill(game)
        fill(s.hub)
        leaver, left = s.pair()
        leaver.close()
        assert gone.get(timeout=TIMEOUT) is left
        gate.open(2)
        number = left.connection_id
        news = {told.get(timeout=TIMEOUT) for _ in range(4)}
        assert news == {
            (f"{where} {what}", number) for where in ("hub", "game") for what in ("came", "gone")
        }
        assert players == {ctx.connection_id: "here"}
        assert watcher.messages(2) == [f"came {number}", f"gone {number}"]
