"""The hub's own surface: results, exceptions, time-outs, deadlocks, its life, what goes to all."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
    Context,
    DeadlockError,
    DHub,
    ExecTimeout,
    HotlineFrameOption,
    Hub,
    HubSetting,
    MatcherMap,
    MessageType,
    PayloadError,
    QueueFull,
    Request,
    SettingError,
    Upgrader,
    UsageError,
    WebsocketPeriod,
    WrongThread,
)
from tests.support import (
    TIMEOUT,
    AnyHub,
    Items,
    Logs,
    RawPeer,
    connect,
    fence,
    in_thread,
    raw_handshake,
    serving,
)


def setting(**fields: Any) -> HubSetting[Any, Any]:
    return HubSetting(meta_gen=dict, **fields)


def test_exec_sync_returns_the_result_and_raises_the_exception() -> None:
    """The caller gets what the closure returned, or the very exception that it raised."""
    error = LookupError("mine")

    def trip(_: DHub[Any, Any]) -> None:
        raise error

    with Hub(setting()) as hub:
        result = object()
        assert hub.exec_sync(lambda _: result) is result
        with pytest.raises(LookupError) as caught:
            hub.exec_sync(trip)
        assert caught.value is error


def test_exec_sync_on_the_hub_thread_runs_at_once() -> None:
    """A closure may use functions that submit and wait: it does not wait for itself."""
    with Hub(setting()) as hub:
        assert hub.exec_sync(lambda dhub: dhub.hub.exec_sync(lambda _: "inner")) == "inner"


def test_exec_sync_times_out_with_the_stack_of_the_hub() -> None:
    """The error shows what keeps the hub busy, and the work still runs later."""
    release, ran = threading.Event(), threading.Event()

    def dawdle(_: DHub[Any, Any]) -> None:
        release.wait(TIMEOUT)

    with Hub(setting()) as hub:
        hub.exec_async(dawdle)
        with pytest.raises(ExecTimeout, match="in dawdle") as caught:
            hub.exec_sync(lambda _: ran.set(), 0.05)
        assert isinstance(caught.value, TimeoutError)
        assert "in dawdle" in caught.value.stack
        release.set()
        assert ran.wait(TIMEOUT)


def test_two_hubs_that_wait_for_each_other_are_refused() -> None:
    """A cycle over two hubs raises where it would close, and the others get their results."""
    with Hub(setting()) as one, Hub(setting()) as two:

        def back(_: DHub[Any, Any]) -> str:
            with pytest.raises(DeadlockError, match="would never end"):
                one.exec_sync(lambda _: None)
            return "refused"

        assert one.exec_sync(lambda _: two.exec_sync(back)) == "refused"


def test_a_cycle_of_hub_and_client_is_refused() -> None:
    """A handler waits for the hub, and the hub's closure for the handler's client."""

    def receive(ctx: Any, meta: Any) -> bool:
        def back(_: Any) -> str:
            try:
                ctx.exec_sync(lambda: None)
            except DeadlockError:
                return "refused"
            return "ran"

        ctx.write(ctx.hub.exec_sync(back))
        return False

    with serving(on_receive_message=receive) as s:
        peer, _ = s.pair()
        peer.send("x")
        assert peer.message() == "refused"


def test_a_full_queue_refuses() -> None:
    """Beyond chan_queue_size submitting raises at once, and what was accepted runs."""
    ran: list[int] = []
    hub = Hub(setting(chan_queue_size=3))
    for number in range(3):
        hub.exec_async(lambda _, number=number: ran.append(number))  # type: ignore[misc]
    for _ in range(2):
        with pytest.raises(QueueFull, match="chan_queue_size"):
            hub.exec_async(lambda _: ran.append(9))
    assert hub.statistics().queue_depth == 3
    hub.close()
    assert ran == [0, 1, 2]


def test_the_three_ways_to_run() -> None:
    """``started``, ``start`` and ``run``; a hub runs once."""
    for hub in (Hub.started(setting()), Hub(setting())):
        if hub.statistics().state == "new":
            hub.start()
        assert hub.exec_sync(lambda _: 1) == 1
        with pytest.raises(UsageError, match="running"):
            hub.start()
        hub.close()
        with pytest.raises(UsageError, match="closed"):
            hub.run()
    hub = Hub(setting())
    running = in_thread(hub.run)
    ident = hub.exec_sync(lambda _: threading.get_ident(), TIMEOUT)
    assert ident != threading.get_ident()
    hub.close()
    running()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises, although a shell may have started this process to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_hub_that_runs_on_the_main_thread() -> None:
    """In an orderly way: what was accepted runs, clients are told, and then it is raised."""
    ran: list[str] = []
    logs = Logs()
    hub = Hub(setting(logger=logs))
    hub.exec_async(lambda _: signal.raise_signal(signal.SIGINT))
    hub.exec_async(lambda _: ran.append("accepted"))
    with pytest.raises(KeyboardInterrupt):
        hub.run()
    assert hub.join(TIMEOUT)
    assert ran == ["accepted"]
    assert logs.warnings() == []


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_idle_ends_it_too() -> None:
    """Also where the hub waits for work."""
    hub = Hub(setting())
    main = threading.get_ident()
    # The hub comes to rest well within that time; if not, the test holds all the same.
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT))
    hub.exec_async(lambda _: timer.start())
    with pytest.raises(KeyboardInterrupt):
        hub.run()
    assert hub.join(TIMEOUT)
    timer.join()


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_filter_is_not_the_filters() -> None:
    """It ends the hub, as anywhere else, and what was pushed still goes out."""
    logs, started = Logs(), threading.Event()
    hub = Hub(setting(logger=logs, on_connection_start=lambda ctx, meta: started.set()))

    def predicate(hub: AnyHub, ctx: Any, meta: Any) -> bool:
        raise KeyboardInterrupt  # as the second one does

    def visit() -> list[str | bytes]:
        with hub.serve() as server, RawPeer(connect(server)) as peer:
            assert started.wait(TIMEOUT)
            hub.broadcast_with_filter("nobody's", predicate)
            hub.broadcast("for all")
            return peer.messages(1)

    visiting = in_thread(visit)
    with pytest.raises(KeyboardInterrupt):
        hub.run()
    assert visiting() == ["for all"]
    assert hub.join(TIMEOUT)
    assert logs.warnings() == []


def test_delayed_execution_comes_first() -> None:
    """On the hub thread, before what was submitted earlier; it may use the hub as any closure."""
    seen: list[Any] = []

    def delayed(hub: AnyHub) -> None:
        seen.append(threading.current_thread().name.endswith("-hub"))
        seen.append(hub.exec_sync(lambda dhub: dhub.clients_num()))
        seen.append(hub.hotline().push("x"))

    hub = Hub(setting(delayed_execution=delayed))
    hub.exec_async(lambda _: seen.append("submitted"))
    assert seen == []
    with hub:
        fence(hub)
    assert seen == [True, 0, 1, "submitted"]


def test_no_client_comes_before_delayed_execution_has_run() -> None:
    """It may make what their callbacks use; nor is ``start_once`` over before."""
    seen: Items[str] = Items()
    release = threading.Event()

    def delayed(hub: AnyHub) -> None:
        release.wait(TIMEOUT)
        seen.add("open")

    def meta() -> None:
        seen.add("meta")

    def origin(request: Request) -> bool:
        seen.add("origin")
        return True

    def start(ctx: Any, meta: Any) -> None:
        seen.add("client")

    def ask(hub: AnyHub) -> None:
        hub.start_once()
        seen.add("asked")

    fields: dict[str, Any] = {"delayed_execution": delayed, "on_connection_start": start}
    with serving(**fields, meta_gen=meta, upgrader=Upgrader(check_origin=origin)) as s:
        sock = connect(s.server)
        sock.sendall(raw_handshake())
        asked = in_thread(lambda: ask(s.hub))
        udp = s.hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.UDP)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.sendto(b"hello", udp.address)
            release.set()
            told = seen.wait(7)
            assert told[0] == "open"
            assert sorted(told[1:]) == ["asked", "client", "client", "meta", "meta", "origin"]
        asked()
        sock.close()


def test_a_hub_that_is_closed_before_it_opens_keeps_nobody() -> None:
    release = threading.Event()
    started: list[Any] = []
    delays: list[bool] = []
    hub = Hub(
        setting(
            delayed_execution=lambda hub: delays.append(release.wait(TIMEOUT)),
            on_connection_start=lambda ctx, meta: started.append(ctx),
            logger=(logs := Logs()),
        )
    )
    hub.start()
    sock = connect(hub.serve())
    sock.sendall(raw_handshake())
    hub.close(0.2)
    logs.wait("still runs")
    while hub.statistics().threads > 1 and not delays:
        assert started == []
    assert delays == []  # nobody has waited for it
    release.set()
    sock.close()


@pytest.mark.parametrize("error", [LookupError("late"), SystemExit(1)])
def test_delayed_execution_that_raises_is_logged(error: BaseException) -> None:
    """And the hub opens for work."""
    logs = Logs()

    def delayed(hub: AnyHub) -> None:
        raise error

    with Hub(setting(delayed_execution=delayed, logger=logs)) as hub:
        assert hub.exec_sync(lambda _: 1) == 1
    assert "delayed_execution raised" in logs.warnings()[0]


def test_broadcast_reaches_everybody() -> None:
    """Text and binary, from the hub or by a client, the sender included."""
    with serving() as s:
        pairs = s.pairs(3)
        assert s.hub.broadcast("text") == 1
        assert s.hub.broadcast(b"binary") == 2
        assert pairs[1][1].hub_broadcast("from one") == 3
        for peer, _ in pairs:
            assert peer.messages(3) == ["text", b"binary", "from one"]
        assert [client.write_count for _, client in pairs] == [3, 3, 3]


def test_broadcast_with_filter_asks_on_the_hub_thread() -> None:
    """It reaches those for whom the predicate is true; where it raises, not, and the log told."""
    idents = set()
    with serving(on_handshake=lambda request: request.path) as s:
        pairs = [s.pair(path=path) for path in ("/yes", "/no", "/trip")]

        def predicate(hub: AnyHub, ctx: Any, meta: str) -> bool:
            assert hub is s.hub
            idents.add(threading.get_ident())
            if meta == "/trip":
                raise LookupError("tripped")
            return meta == "/yes"

        s.hub.broadcast_with_filter("some", predicate)
        s.hub.exec_sync(lambda _: None)
        s.hub.broadcast("all")
        assert pairs[0][0].messages(2) == ["some", "all"]
        assert pairs[1][0].message() == "all"
        assert pairs[2][0].message() == "all"
        assert idents == {s.hub.exec_sync(lambda _: threading.get_ident())}
        assert "tripped" in s.logs.wait("a broadcast filter raised")


def test_what_is_no_message_is_refused() -> None:
    """Neither text nor bytes, or no UTF-8: the caller is told, and nothing is sent."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        sends: list[Any] = [s.hub.broadcast, hotline.push, client.write, client.hub_broadcast]
        for send in sends:
            for wrong in ({"a": 1}, None, bytearray(b"x"), 5):
                with pytest.raises(UsageError, match="expected a message of str"):
                    send(wrong)
            with pytest.raises(ValueError, match="UTF-8"):
                send("\ud800")
        assert client.write("only this") == 1
        assert peer.message() == "only this"


def test_what_is_no_work_is_refused_where_it_is_handed_over() -> None:
    """Such as what a function returned, in place of the function: no log, no lost wait."""
    with serving() as s:
        client: Any = s.pair()[1]
        hub: Any = s.hub
        room: Any = HotlineFrameOption(dict).run(hub.hotline())
        ways = [
            *(each.exec_async for each in (hub, client, room)),
            *(each.exec_sync for each in (hub, client, room)),
            *(each.each_client for each in (hub, room)),
            lambda work: hub.broadcast_with_filter("text", work),
        ]
        for way in ways:
            with pytest.raises(UsageError, match="expected a function, got None"):
                way(None)
        with pytest.raises(SettingError, match="option: expected a HotlineOption"):
            hub.hotline("lobby")
        for prefix in (None, 5, bytearray(b"p")):
            with pytest.raises(SettingError, match="prefix: expected text or bytes"):
                hub.byte_splicing(prefix, {})
        for reason in (None, b"bye"):
            with pytest.raises(SettingError, match="reason: expected text"):
                client.close(1000, reason)
        assert s.logs.warnings() == []
        assert client.exec_sync(lambda: 5, TIMEOUT) == 5


def test_marshal_unmarshal_and_byte_splicing() -> None:
    """JSON without a matcher; the matcher's functions with one; the prefix says the kind."""
    hub = Hub(setting())
    assert hub.marshal({"a": [1, "ä"]}) == '{"a":[1,"ä"]}'
    assert hub.unmarshal('{"a": 1}', dict[str, int]) == {"a": 1}
    with pytest.raises(PayloadError):
        hub.unmarshal("{", dict)
    assert hub.byte_splicing("p ", [1]) == "p [1]"
    assert hub.byte_splicing(b"p ", [1]) == b"p [1]"
    hub.close()
    matcher = MatcherMap[Any, str](
        marshal=lambda obj: repr(obj).encode(), unmarshal=lambda data, into: into(data)
    )
    hub = Hub(setting(receive_matcher=matcher))
    assert hub.marshal(1) == b"1"
    assert hub.unmarshal("7", int) == 7
    assert hub.byte_splicing("p ", 1) == "p 1"
    hub.close()


def test_the_hubs_matcher_is_frozen() -> None:
    """Handlers are registered before: the hub's clients read the matcher from many threads."""
    matcher = MatcherMap[Any, str]()
    hub = Hub(setting(receive_matcher=matcher))
    with pytest.raises(UsageError, match="before the hub starts"):
        matcher.add("x", lambda ctx, meta: None)
    hub.close()


@pytest.mark.parametrize(
    ("kind", "newline", "text", "data"),
    [
        (None, b"", "t", b"b"),
        (MessageType.TEXT, b"", "t", "b"),
        (MessageType.BINARY, b"", b"t", b"b"),
        (None, b"\r\n", "t\r\n", b"b\r\n"),
    ],
)
def test_kinds_and_newlines(kind: int | None, newline: bytes, text: Any, data: Any) -> None:
    """``write_message_type`` fixes one kind for all, ``write_newline`` ends each message."""
    period = WebsocketPeriod[Any](write_message_type=kind, write_newline=newline)
    with serving(period=period) as s:
        peer, client = s.pair()
        s.hub.broadcast("t")
        s.hub.broadcast(b"b")
        fence(s.hub)
        client.write("t")
        client.write(b"b")
        client.write_message_type(MessageType.TEXT, "t")
        client.write_message_type(MessageType.BINARY, b"b")
        end = newline.decode()
        assert peer.messages(6) == [text, data, text, data, "t" + end, b"b" + newline]


def test_dhub_is_for_the_hub_thread() -> None:
    """It shows clients and hotlines by id there, and refuses every other thread."""
    with serving() as s:
        _, client = s.pair()
        hotline = s.hub.hotline()

        def look(dhub: DHub[Any, Any]) -> DHub[Any, Any]:
            assert dhub.hub is s.hub
            assert dhub.clients() == [client]
            assert dhub.clients_num() == 1
            assert dhub.client(client.connection_id) is client
            assert dhub.hotlines() == [hotline]
            assert dhub.hotline(hotline.hotline_id) is hotline
            hotline.close()
            assert dhub.hotline(hotline.hotline_id) is None
            return dhub

        kept = s.hub.exec_sync(look)
        for use in (
            lambda: kept.hub,
            kept.clients,
            kept.clients_num,
            kept.hotlines,
            lambda: kept.client(client.connection_id),
            lambda: kept.hotline(hotline.hotline_id),
            lambda: client.exec_sync(kept.clients),
        ):
            with pytest.raises(WrongThread, match="exec_sync"):
                use()
        assert repr(kept) == f"<DHub of {s.hub!r}>"


def test_the_hub_thread_does_not_wait_for_sockets() -> None:
    """Waiting for writes and pushes is refused there, since everybody would wait with it."""
    with serving() as s:
        _, client = s.pair()
        hotline = s.hub.hotline()
        for wait in (client.wait_write_consumed, hotline.wait_push_consumed):
            with pytest.raises(WrongThread, match="hub thread"):
                s.hub.exec_sync(lambda _, wait=wait: wait(0))  # type: ignore[misc]


def test_its_context_is_cancelled_as_it_closes() -> None:
    """With everything below it."""
    hub = Hub(setting())
    below = Context(hub.context)
    hub.start()
    assert not hub.context.cancelled
    hub.close()
    assert hub.context.reason == below.reason == "the hub was closed"


def test_statistics_and_repr() -> None:
    """What is to be seen of a hub through its life."""
    hub = Hub(setting(hub_name="games", logger=Logs()))
    assert repr(hub) == "<Hub games new, 0 clients>"
    assert hub.statistics().state == "new"
    with hub, hub.serve() as server:
        assert repr(hub) == "<Hub games running, 0 clients>"
        statistics = hub.statistics()
        assert (statistics.name, statistics.state, statistics.threads) == ("games", "running", 3)
        assert hub.servers() == [server]
        hub.hotline()
        assert hub.statistics().hotlines == 1
    assert repr(hub) == "<Hub games closed, 0 clients>"
    assert hub.statistics().hotlines == 0
    assert hub.servers() == []
    with Hub(setting()) as unnamed:
        assert re.fullmatch("[0-9a-f]{8}", unnamed.name)


def test_what_is_submitted_before_the_start_runs_with_it() -> None:
    """exec_async is accepted, exec_sync waits: the hub may be about to run on another thread."""
    ran: Items[str] = Items()
    hub = Hub(HubSetting[Any, Any](dict))
    hub.exec_async(lambda _: ran.add("async"))
    waiting = in_thread(lambda: hub.exec_sync(lambda _: ran.add("sync"), TIMEOUT))
    with hub:
        waiting()
    assert ran.now() == ["async", "sync"]
    assert hub.state == "closed"
