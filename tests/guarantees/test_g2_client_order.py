"""G2: callbacks of one client never overlap; start, messages and closures in order, close once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import ClientClosed, DeadlockError, PingPongPlan, WebsocketPeriod
from tests.support import (
    CLOSE,
    PING,
    TIMEOUT,
    AnyClient,
    Items,
    RawPeer,
    in_thread,
    masked_frame,
    serving,
    together,
)


class Diary:
    """A record of one client's callbacks, which notices when two of them overlap."""

    def __init__(self) -> None:
        self.lines: Items[str] = Items()
        self._busy = threading.Lock()
        self.overlaps = 0

    def write(self, line: str) -> None:
        if not self._busy.acquire(blocking=False):
            self.overlaps += 1
            return
        try:
            self.lines.add(line)
        finally:
            self._busy.release()

    def settings(self) -> dict[str, Any]:
        """Return settings whose callbacks write here."""

        def receive(ctx: Any, meta: Any) -> bool:
            self.write(f"message {ctx.payload}")
            return False

        return {
            "on_connection_start": lambda ctx, meta: self.write("start"),
            "on_receive_message": receive,
            "on_connection_close": lambda ctx, meta: self.write("close"),
            "period": WebsocketPeriod[Any](
                ping_pong_plan=PingPongPlan(
                    ping_handler=lambda ctx, meta, data: self.write(f"ping {data.decode()}")
                )
            ),
        }


def test_client_callbacks_run_as_start_messages_close() -> None:
    """Frames in one segment with the request included."""
    diary = Diary()
    with serving(**diary.settings()) as s:
        peer, _ = s.pair(behind=masked_frame("early") + masked_frame(b"p", PING))
        peer.send(*[str(number) for number in range(50)])
        peer.send_close()
        lines = diary.lines.until(lambda lines: "close" in lines)
        numbered = [f"message {number}" for number in range(50)]
        assert lines == ["start", "message early", "ping p", *numbered, "close"]
        peer.close()
    assert diary.lines.now().count("close") == 1


def test_client_callbacks_of_many_threads_never_overlap() -> None:
    """Messages, closures of several threads, some waited for, and pings."""
    diary = Diary()
    with serving(**diary.settings()) as s:
        peer, client = s.pair()

        def exercise(number: int) -> None:
            for step in range(100):
                if number == 0:
                    peer.send(f"m{step}")
                elif number == 1:
                    client.exec_sync(lambda step=step: diary.write(f"s{step}"))  # type: ignore[misc]
                else:
                    client.exec_async(lambda step=step: diary.write(f"a{number} {step}"))  # type: ignore[misc]

        together(4, exercise)
        lines = diary.lines.wait(1 + 400)
        peer.close()
    assert diary.overlaps == 0
    for source in ("message m", "s", "a2 ", "a3 "):
        of_source = [line for line in lines[1:] if line.startswith(source)]
        assert of_source == [f"{source}{step}" for step in range(100)]


def test_client_closures_during_a_handler_run_after_it_in_order() -> None:
    inside, release = threading.Event(), threading.Event()
    lines: Items[str] = Items()

    def receive(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "long":
            inside.set()
            release.wait(TIMEOUT)
        lines.add(ctx.payload)
        return False

    with serving(on_receive_message=receive) as s:
        peer, client = s.pair()
        peer.send("long")
        inside.wait(TIMEOUT)
        for number in range(10):
            client.exec_async(lambda number=number: lines.add(str(number)))  # type: ignore[misc]
        assert client.statistics().closures_waiting == 10
        release.set()
        assert lines.wait(11) == ["long", *[str(number) for number in range(10)]]
        peer.close()


@pytest.mark.usefixtures("hasty_threads")
def test_client_closure_before_the_start_runs_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread finds the client as soon as the hub has admitted it."""
    lines: Items[str] = Items()

    def submit(client: AnyClient) -> None:
        admit(client)
        in_thread(lambda: client.exec_async(lambda: lines.add("closure")))()

    with serving(on_connection_start=lambda ctx, meta: lines.add("start")) as s:
        registry = s.hub._core.registry
        admit = registry.admit
        monkeypatch.setattr(registry, "admit", submit)
        for number in range(20):
            with s.peer():
                assert lines.wait(2 * number + 2)[-2:] == ["start", "closure"]


def by_peer_close(peer: RawPeer, client: AnyClient) -> None:
    peer.send_close()


def by_peer_close_twice(peer: RawPeer, client: AnyClient) -> None:
    peer.sock.sendall(masked_frame(b"", CLOSE) * 2)


def by_end_of_stream(peer: RawPeer, client: AnyClient) -> None:
    peer.close()


def by_reset(peer: RawPeer, client: AnyClient) -> None:
    peer.reset()


def by_server(peer: RawPeer, client: AnyClient) -> None:
    client.close(4000, "enough")
    peer.send_close(4000)


def by_both(peer: RawPeer, client: AnyClient) -> None:
    together(2, lambda number: client.close() if number else peer.send_close())


def by_server_many_times(peer: RawPeer, client: AnyClient) -> None:
    together(8, lambda number: client.close(4000 + number))
    peer.close()


def by_violation(peer: RawPeer, client: AnyClient) -> None:
    peer.sock.sendall(b"\xff" * 20)


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        (by_peer_close, "peer"),
        (by_peer_close_twice, "peer"),
        (by_end_of_stream, "lost"),
        (by_reset, "lost"),
        (by_server, "server"),
        (by_both, None),
        (by_server_many_times, "server"),
        (by_violation, "violation"),
    ],
)
def test_client_ended_in_any_way_runs_close_once(
    end: Callable[[RawPeer, AnyClient], None], cause: str | None
) -> None:
    """Either side may end the client; the close callback comes last."""
    diary = Diary()
    with serving(**diary.settings()) as s:
        peer, client = s.pair()
        peer.send("one")
        diary.lines.wait(2)
        end(peer, client)
        diary.lines.until(lambda lines: "close" in lines)
        with pytest.raises(ClientClosed):
            client.exec_async(lambda: diary.write("late"))
        with pytest.raises(ClientClosed):
            client.exec_sync(lambda: diary.write("late"))
        peer.close()
    assert diary.lines.now() == ["start", "message one", "close"]
    ended = s.hub.statistics().ended_by
    assert sum(ended.values()) == 1
    if cause is not None:
        assert ended == {cause: 1}


def test_client_closure_accepted_runs_after_the_connection_has_ended() -> None:
    diary = Diary()
    with serving(**diary.settings()) as s:
        peer, client = s.pair()
        inside, release = threading.Event(), threading.Event()

        def hold() -> None:
            inside.set()
            release.wait(TIMEOUT)

        client.exec_async(hold)
        inside.wait(TIMEOUT)
        client.exec_async(lambda: diary.write("accepted"))
        gone = client.context
        peer.reset()
        gone.wait(TIMEOUT)  # the reader has seen the end
        release.set()
        diary.lines.until(lambda lines: "close" in lines)
    assert diary.lines.now() == ["start", "accepted", "close"]


def test_client_start_raising_closes_with_1011_and_runs_close() -> None:
    closes: Items[int] = Items()

    def start(ctx: Any, meta: Any) -> None:
        raise LookupError("no room")

    with serving(
        on_connection_start=start, on_connection_close=lambda ctx, meta: closes.add(1)
    ) as s:
        peer = s.peer()
        assert peer.closed() == (1011, "the server failed to accept the connection")
        peer.close()
        closes.wait(1)
    assert closes.now() == [1]
    assert "no room" in s.logs.wait("on_connection_start raised")


def test_client_callback_raising_is_logged_and_the_next_one_runs() -> None:

    lines: Items[str] = Items()
    raised: Items[None] = Items()

    def raises(*_: Any) -> bool:
        raised.add(None)
        raise LookupError("tripped")

    plan = PingPongPlan[Any](ping_handler=raises, pong_handler=raises)
    with serving(
        on_receive_message=raises,
        on_connection_close=raises,
        period=WebsocketPeriod(ping_pong_plan=plan),
    ) as s:
        peer, client = s.pair()
        client.exec_async(raises)
        with pytest.raises(LookupError):
            client.exec_sync(raises)
        peer.sock.sendall(masked_frame("x") + masked_frame("", PING) + masked_frame("", 10))
        raised.wait(5)
        client.exec_sync(lambda: lines.add("on"))
        peer.close()
    assert lines.now() == ["on"]
    assert len(raised.now()) == 6
    told = [each for each in s.logs.warnings() if "tripped" in each]
    assert len(told) == 2  # a handler of the client, and its other callbacks


def test_client_exec_sync_in_its_own_callback_runs_at_once() -> None:
    lines: Items[str] = Items()

    def receive(ctx: Any, meta: Any) -> bool:
        ctx.exec_async(lambda: lines.add("after"))
        ctx.exec_sync(lambda: lines.add("inside"))
        lines.add("end")
        return False

    with serving(on_receive_message=receive) as s:
        peer, _ = s.pair()
        peer.send("x")
        assert lines.wait(3) == ["inside", "end", "after"]
        peer.close()


def test_client_exec_sync_between_two_clients_in_a_cycle_is_refused() -> None:
    """One of the two waits raises, and the other one ends."""
    outcome: Items[str] = Items()
    both = threading.Barrier(2)

    def receive(ctx: Any, meta: Any) -> bool:
        other = next(each for each in ctx.hub.clients() if each is not ctx)
        both.wait(TIMEOUT)
        try:
            other.exec_sync(lambda: None)
            outcome.add("ran")
        except DeadlockError:
            outcome.add("refused")
        return False

    with serving(on_receive_message=receive) as s:
        (one, _), (two, _) = s.pairs(2)
        one.send("x")
        two.send("x")
        assert sorted(outcome.wait(2)) == ["ran", "refused"]
        one.close()
        two.close()


def test_client_message_during_a_closure_runs_after_it() -> None:
    """The closure runs on another thread than the reader.  Other clients go on."""
    inside, go_on = threading.Event(), threading.Event()
    lines: Items[str] = Items()

    def closure() -> None:
        inside.set()
        assert go_on.wait(TIMEOUT)
        lines.add("closure")

    def receive(ctx: Any, meta: Any) -> bool:
        lines.add(f"message {ctx.payload}")
        return False

    with serving(on_receive_message=receive) as s:
        (peer, client), (other, neighbour) = s.pairs(2)
        client.exec_async(closure)
        assert inside.wait(TIMEOUT)
        peer.send("of the busy one")
        other.send("of another")
        assert lines.wait(1) == ["message of another"]
        assert client.statistics().received == 0
        go_on.set()
        assert lines.wait(3)[1:] == ["closure", "message of the busy one"]
        assert neighbour.statistics().received == 1
