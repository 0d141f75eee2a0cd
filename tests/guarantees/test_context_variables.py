"""Context variables: one context for each client, and nothing seen by others on the same thread.

In virtual time all callbacks run on the thread of the test, the strictest pool of all.
"""

from __future__ import annotations

import contextvars
import socket
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from hubthread import (
    ConnectionProtocols,
    HandshakeRejected,
    HotlineFrameOption,
    Hub,
    HubSetting,
    LongPollingOption,
    PingPongPlan,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.protocol.http import Response
from hubthread.testing import VirtualHub
from tests.support import Items, ask, in_thread, serving

AnyHub = VirtualHub[Any, Any]
user: contextvars.ContextVar[str | None] = contextvars.ContextVar("user", default=None)


class Seen:
    """Called by each callback: notes the variable and sets it to the callback's name."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str | None]] = []

    def __call__(self, name: str) -> None:
        self.notes.append((name, user.get()))
        user.set(name)

    def hook(self, name: str, result: object = None) -> Callable[..., Any]:
        def hook(*args: Any) -> object:
            self(name)
            return result

        return hook


def test_client_has_one_context_in_all_its_callbacks() -> None:
    seen = Seen()
    plan = PingPongPlan[Any](ping_handler=seen.hook("ping"))
    setting = HubSetting[Any, Any](
        dict,
        on_handshake=seen.hook("handshake", {}),
        on_connection_start=seen.hook("start"),
        on_receive_message=seen.hook("message", True),
        on_connection_close=seen.hook("close"),
        websocket_period=WebsocketPeriod(
            ping_pong_plan=plan, upgrader=Upgrader(check_origin=seen.hook("origin", True))
        ),
    )
    with VirtualHub(setting) as hub:
        client = hub.connect()
        client.send("a")
        client.send_wire(b"\x89\x80\0\0\0\0")
        client.ctx.exec_async(seen.hook("async"))
        hub.settle()
        client.ctx.exec_sync(seen.hook("sync"))
        client.ctx.exec_sync(lambda: client.ctx.exec_sync(seen.hook("nested")))
        hub.each_client(seen.hook("each"))
        client.close()
        hub.settle()
    names = [
        "origin",
        "handshake",
        "start",
        "message",
        "ping",
        "async",
        "sync",
        "nested",
        "each",
        "close",
    ]
    assert seen.notes == list(zip(names, [None, *names[:-1]], strict=True))
    assert user.get() is None


def test_clients_do_not_see_each_other() -> None:
    seen = Seen()
    setting = HubSetting[Any, Any](dict, on_receive_message=seen.hook("message", True))
    with VirtualHub(setting) as hub:
        first, second = hub.connect(), hub.connect()
        first.ctx.exec_sync(lambda: second.ctx.exec_sync(seen.hook("second in first")))
        first.send("a")
        second.send("b")
    assert seen.notes == [
        ("second in first", None),
        ("message", None),
        ("message", "second in first"),
    ]


def _closures(hub: AnyHub, see: Callable[..., Any]) -> None:
    for _ in range(2):
        hub.exec_async(see)
        hub.exec_sync(see)


def _filters(hub: AnyHub, see: Callable[..., Any]) -> None:
    for _ in range(2):
        hub.broadcast_with_filter("data", see)
        hub.settle()


def _polls(hub: AnyHub, see: Callable[..., Any]) -> None:
    for _ in range(2):
        hub.long_polling(LongPollingOption(see, 10, retry=1, timeout_callback=lambda hub: None))
        hub.advance(20)


def _rooms(hub: AnyHub, see: Callable[..., Any]) -> None:
    for _ in range(2):
        HotlineFrameOption(dict, on_start=see).run(hub.hotline()).close()
        hub.settle()


def _countdowns(hub: AnyHub, see: Callable[..., Any]) -> None:
    for _ in range(2):
        room: Any = HotlineFrameOption[Any](dict).run(hub.hotline())
        room.operation_timeout(1, see)
        hub.advance(2)
        room.close()
        hub.settle()


def _cancelled(hub: AnyHub, see: Callable[..., Any]) -> None:
    for _ in range(2):
        client = hub.connect()
        client.ctx.context.add_callback(see)
        client.close()
        hub.settle()


PLACES = (_closures, _filters, _polls, _rooms, _countdowns, _cancelled)


@pytest.mark.parametrize("play", PLACES, ids=[play.__name__[1:] for play in PLACES])
def test_callback_of_no_client_starts_without_variables(
    play: Callable[[AnyHub, Callable[..., Any]], None],
) -> None:
    seen = Seen()
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        hub.connect()
        play(hub, seen.hook("seen"))
    assert [value for _, value in seen.notes] == [None] * len(seen.notes)
    assert len(seen.notes) >= 2
    assert user.get() is None


def test_room_has_one_context_in_all_its_callbacks() -> None:
    seen = Seen()
    option = HotlineFrameOption[Any](
        dict, hz=10, on_start=seen.hook("start"), logic=seen.hook("logic"),
        on_close=seen.hook("close"),
    )  # fmt: skip
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        room = option.run(hub.hotline())
        hub.tick(room)
        room.exec_async(seen.hook("closure"))
        hub.settle()
        room.close()
        hub.settle()
    names = ["start", "logic", "closure", "close"]
    assert seen.notes == list(zip(names, [None, *names[:-1]], strict=True))


def test_delayed_execution_leaves_no_variable_to_the_hub_thread() -> None:
    seen = Seen()
    with VirtualHub[Any, Any](HubSetting(dict, delayed_execution=seen.hook("delayed"))) as hub:
        hub.exec_sync(seen.hook("closure"))
    assert seen.notes == [("delayed", None), ("closure", None)]


def test_udp_peers_do_not_see_each_other() -> None:
    """They share a pool of threads."""
    told: Items[Any] = Items()

    def message(ctx: Any, meta: Any) -> bool:
        told.add((ctx.connection_id, ctx.payload, user.get()))
        user.set(ctx.payload)
        return True

    with Hub[Any, Any](HubSetting(dict, on_receive_message=message)) as hub:
        server = hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.UDP)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ada,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bob,
        ):
            for number, (peer, text) in enumerate([(ada, b"a"), (bob, b"b"), (ada, b"c")]):
                peer.sendto(text, server.address)
                told.wait(number + 1)
    assert told.now() == [(1, "a", None), (2, "b", None), (1, "c", "a")]


def test_tcp_peer_keeps_what_on_handshake_sets() -> None:
    seen = Seen()
    told: Items[str | None] = Items()
    setting = HubSetting[Any, Any](
        dict,
        on_handshake=seen.hook("handshake"),
        on_connection_start=lambda ctx, meta: told.add(user.get()),
    )
    with Hub(setting) as hub:
        server = hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.TCP)
        with socket.create_connection(server.address):
            assert told.wait(1) == ["handshake"]


def test_wsgi_hooks_leave_no_variable_to_the_thread_of_the_server() -> None:
    """They see what the framework has set around them; the client does not."""
    seen = Seen()
    told: Items[str | None] = Items()
    setting = HubSetting[Any, Any](
        dict,
        on_handshake=seen.hook("handshake"),
        on_connection_start=lambda ctx, meta: told.add(user.get()),
        websocket_period=WebsocketPeriod(upgrader=Upgrader(error=seen.hook("refused"))),
    )
    near, far = socket.socketpair()
    environ = {
        "HTTP_UPGRADE": "websocket", "HTTP_CONNECTION": "upgrade", "HTTP_HOST": "localhost",
        "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
        "HTTP_SEC_WEBSOCKET_VERSION": "13", "SERVER_PROTOCOL": "HTTP/1.1",
        "werkzeug.socket": near, "wsgi.multithread": True,
    }  # fmt: skip
    setup_testing_defaults(environ)

    def serve() -> None:
        user.set("framework")
        hub.websocket_handler(dict(environ, HTTP_UPGRADE=""))
        with near.makefile("rb") as stream:
            hub.websocket_handler(dict(environ, **{"wsgi.input": stream})).close()
        assert user.get() == "framework"

    with near, far, Hub(setting) as hub:
        in_thread(serve)()
        assert told.wait(1) == [None]
        far.close()
    assert seen.notes == [("refused", "framework"), ("handshake", "framework")]


def test_pages_of_one_connection_start_without_variables() -> None:
    seen = Seen()

    def page(request: Any) -> Response:
        seen("page")
        if request.query:
            raise HandshakeRejected(403, "No.")
        return Response.text(200, "")

    with serving(serve={"pages": {"/": page}}) as s:
        for path in (b"/", b"/?a=1"):
            ask(s.server, b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
    assert seen.notes == [("page", None), ("page", None)]
