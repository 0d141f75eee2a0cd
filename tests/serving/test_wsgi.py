"""``hub.websocket_handler`` with an environ and a real connection, without a server.

What each WSGI server does with it is in tests/integrations.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from hubthread import (
    HandshakeRejected,
    HotlineFrameOption,
    Hub,
    HubSetting,
    Limits,
    Readers,
    Upgrader,
    UsageError,
    WebsocketPeriod,
)
from hubthread.concurrency import ending
from hubthread.serving.wsgi import WSGIAnswer
from tests.support import (
    KEY,
    TIMEOUT,
    AnyHub,
    Items,
    Logs,
    in_thread,
    masked_frame,
    read_to_end,
    status_of,
    together,
)

FIELDS = {
    "HTTP_HOST": "example.org",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_KEY": KEY,
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_METHOD": "GET",
    "SERVER_SOFTWARE": "a server",
    "REMOTE_ADDR": "192.0.2.1",
    "REMOTE_PORT": "4321",
}


class Request:
    """A request that a server has read: its environ, and both ends of the connection."""

    def __init__(self, **fields: Any) -> None:
        self.peer, self.sock = socket.socketpair()
        self.peer.settimeout(TIMEOUT)
        self._file = self.sock.makefile("rb")
        self.environ: dict[str, Any] = {
            **FIELDS,
            "werkzeug.socket": self.sock,
            "wsgi.input": self._file,
            "wsgi.multithread": True,
            **fields,
        }
        setup_testing_defaults(self.environ)

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_: object) -> None:
        """As a server closes a connection."""
        self._file.close()
        self.sock.close()
        self.peer.close()

    def head(self) -> bytes:
        """The head of the answer that the peer gets."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = self.peer.recv(1)
            assert part, head
            head += part
        return head


@contextlib.contextmanager
def a_hub(**fields: Any) -> Iterator[AnyHub]:
    fields.setdefault("meta_gen", dict)
    hub: AnyHub = Hub(HubSetting(**fields))
    try:
        yield hub
    finally:
        hub.close(TIMEOUT)


def body(answer: WSGIAnswer) -> str:
    return b"".join(answer).decode()


def refused(hub: AnyHub, status: int, why: str, **fields: Any) -> WSGIAnswer:
    """Assert that the hub refuses a request with these fields, and leaves its socket alone."""
    with Request(**fields) as request:
        answer = hub.websocket_handler(request.environ)
        assert answer.status.split()[0] == str(status), answer.status
        assert why in body(answer)
        assert dict(answer.headers)["Content-Length"] == str(len(answer.body))
        request.sock.send(b"still here")
        assert request.peer.recv(100) == b"still here"
    return answer


def test_wsgi_request_gets_101_and_the_server_an_end_of_file() -> None:
    with a_hub() as hub, Request() as request:
        told: list[tuple[str, list[tuple[str, str]]]] = []
        answer = hub.websocket_handler(request.environ, lambda *args: told.append(args))
        assert status_of(request.head()) == 101
        assert told == [("101 Switching Protocols", [])]
        assert body(answer) == ""
        request.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        assert request.sock.recv(100) == b""
        assert hub.statistics().wsgi_moved == 1
        answer.close()
        with pytest.raises(BrokenPipeError):
            request.sock.sendall(b"anybody there?")


def test_wsgi_answer_is_an_application_too() -> None:
    with a_hub() as hub:
        answer = refused(hub, 426, "ws://", HTTP_UPGRADE="")
        told: list[tuple[str, list[tuple[str, str]]]] = []
        assert b"".join(answer({}, lambda *args: told.append(args))) == answer.body
        ((status, headers),) = told
        assert status == "426 Upgrade Required"
        # Not Upgrade, which PEP 3333 keeps from applications.
        assert dict(headers).keys() == {
            "Sec-WebSocket-Version", "Content-Type", "Content-Length", "X-Content-Type-Options",
        }  # fmt: skip


def test_wsgi_request_is_made_of_the_environ() -> None:
    came: Items[Any] = Items()
    with (
        a_hub(on_connection_start=lambda ctx, meta: came.add(ctx)) as hub,
        Request(
            SCRIPT_NAME="/app",
            PATH_INFO="/caf\xc3\xa9 \xff%3F",
            QUERY_STRING="a=%C3%BC&b=\xc3\xbc",
            HTTP_COOKIE="user=ada",
            HTTP_X_NOT_TEXT=None,
            HTTP_SEC_WEBSOCKET_PROTOCOL="one,two",
        ) as request,
    ):
        hub.websocket_handler(request.environ)
        (client,) = came.wait(1)
    seen = client.handshake
    assert seen.path == "/app/café \ufffd%3F"
    assert seen.query == {"a": "ü", "b": "ü"}
    assert seen.cookies == {"user": "ada"}
    assert seen.subprotocols == ("one", "two")
    assert seen.peer == ("192.0.2.1", 4321)
    assert not seen.secure


@pytest.mark.parametrize(
    ("status", "why", "fields"),
    [
        (405, "Only GET", {"REQUEST_METHOD": "POST"}),
        (426, "HTTP/1.0", {"SERVER_PROTOCOL": "HTTP/1.0"}),
        (505, "HTTP/2.0", {"SERVER_PROTOCOL": "HTTP/2.0"}),
        (400, "Key must be sent once", {"HTTP_SEC_WEBSOCKET_KEY": None}),
        (400, "16 bytes", {"HTTP_SEC_WEBSOCKET_KEY": f"{KEY},{KEY}"}),
        (426, "must be 13", {"HTTP_SEC_WEBSOCKET_VERSION": "8"}),
        (413, "body", {"CONTENT_LENGTH": "1"}),
        (413, "body", {"HTTP_TRANSFER_ENCODING": "chunked"}),
        (400, "Host", {"HTTP_HOST": "a b"}),
        (400, "control character", {"HTTP_COOKIE": "a\x00"}),
        (403, "may not connect", {"HTTP_ORIGIN": "http://evil.example"}),
        (
            403,
            "may not connect",
            {"HTTP_ORIGIN": "http://example.org", "wsgi.url_scheme": "https"},
        ),
        (501, "does not let go", {"werkzeug.socket": None, "wsgi.input": io.BytesIO()}),
        (501, "forks a process", {"wsgi.multithread": False, "wsgi.multiprocess": True}),
        (501, "greenlets", {"eventlet.input": object()}),
    ],
)
def test_wsgi_request_that_cannot_be_accepted_gets_its_status(
    status: int, why: str, fields: dict[str, Any]
) -> None:
    told: Items[tuple[int, str]] = Items()
    upgrader = Upgrader(error=lambda request, status, reason: told.add((status, reason)))
    with a_hub(websocket_period=WebsocketPeriod(upgrader=upgrader), logger=Logs()) as hub:
        refused(hub, status, why, **fields)
        assert hub.statistics().handshakes_refused == 1
    ((told_status, reason),) = told.now()
    assert told_status == status
    assert why in reason


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (lambda: HandshakeRejected(499, "odd"), "499 Refused"),
        (lambda: HandshakeRejected(401, "no", (("A", "b\r\nC: d"),)), "500 "),
        (lambda: HandshakeRejected(401, "no", (("Content-Length", "7"),)), "500 "),
        (lambda: HandshakeRejected(401, "\ud800"), "500 "),
    ],
)
def test_wsgi_refusal_of_a_hook_is_sent_whatever_it_holds(
    refusal: Callable[[], HandshakeRejected], status: str
) -> None:
    def shake(request: Any) -> None:
        raise refusal()

    with a_hub(on_handshake=shake, logger=(logs := Logs())) as hub, Request() as request:
        answer = hub.websocket_handler(request.environ)
        assert answer.status.startswith(status)
        names = [name for name, _ in answer.headers]
        assert names == ["Content-Type", "Content-Length", "X-Content-Type-Options"]
        assert len(logs.warnings()) == (status == "500 ")


def test_wsgi_refusal_of_a_head_request_has_no_body() -> None:
    with a_hub() as hub, Request(REQUEST_METHOD="HEAD") as request:
        answer = hub.websocket_handler(request.environ)
        assert answer.status == "405 Method Not Allowed"
        assert int(dict(answer.headers)["Content-Length"]) > 0
        assert body(answer) == ""


def test_wsgi_meta_given_to_a_hub_with_on_handshake_is_refused() -> None:
    """The hook guards the hub: a meta must not go around it."""

    def shake(request: Any) -> str:
        raise HandshakeRejected(401, "Log in first.", (("WWW-Authenticate", "Basic"),))

    with a_hub(on_handshake=shake) as hub:
        answer = refused(hub, 401, "Log in first.")
        assert ("WWW-Authenticate", "Basic") in answer.headers
        with Request() as request, pytest.raises(UsageError, match="without meta"):
            hub.websocket_handler(request.environ, meta=None)


def test_wsgi_replaced_input_lets_the_client_in_and_warns_once() -> None:
    with a_hub(logger=(logs := Logs())) as hub, Request() as first, Request() as second:
        for each in (first, second):
            hub.websocket_handler(each.environ | {"wsgi.input": io.BytesIO(b"body")})
            assert status_of(each.head()) == 101
        assert ["a middleware has replaced wsgi.input" in line for line in logs.warnings()] == [
            True
        ]


def test_wsgi_over_max_connections_gets_503_and_one_line_in_the_log() -> None:
    logs = Logs()
    with a_hub(logger=logs) as hub, Request() as first, Request() as second:
        for each in (first, second):
            assert hub.websocket_handler(each.environ, max_connections=2).status[:3] == "101"
        for _ in range(3):
            with Request() as third:
                answer = hub.websocket_handler(third.environ, max_connections=2)
            assert answer.status[:3] == "503"
            assert ("Retry-After", "1") in answer.headers
        (warning,) = logs.warnings()
        assert "2 connections, the limit" in warning


def test_wsgi_over_connections_per_address_gets_429() -> None:
    """``REMOTE_ADDR`` may come from a proxy's header, by a middleware; Unix sockets have none."""
    limits = Limits(connections_per_address=1)
    requests: list[Request] = []
    readers: Items[threading.Thread] = Items()

    def start(ctx: Any, meta: Any) -> None:
        readers.add(threading.current_thread())

    # With a thread of its own a connection has given its place back when the thread has ended.
    fields: dict[str, Any] = {"limits": limits, "on_connection_start": start}
    fields["readers"] = Readers.OWN
    with a_hub(logger=(logs := Logs()), **fields) as hub, contextlib.ExitStack() as stack:

        def status(address: str) -> str:
            requests.append(stack.enter_context(Request(REMOTE_ADDR=address)))
            return hub.websocket_handler(requests[-1].environ).status[:3]

        assert [status("198.51.100.7") for _ in range(3)] == ["101", "429", "429"]
        (reader,) = readers.wait(1)
        assert [status(each) for each in ("198.51.100.8", "", "", "10.0.0.1")] == ["101"] * 4
        requests[0].peer.close()
        reader.join(TIMEOUT)
        assert status("198.51.100.7") == "101"
        assert hub.statistics().limits_struck["connections_per_address"] == 2
        (warning,) = logs.warnings()
        assert "1 connections of 198.51.100.7, the limit" in warning


def test_wsgi_limit_holds_for_requests_at_the_same_time() -> None:
    statuses: Items[str] = Items()
    with a_hub(logger=Logs()) as hub, contextlib.ExitStack() as stack:
        requests = [stack.enter_context(Request()) for _ in range(16)]

        def come(number: int) -> None:
            answer = hub.websocket_handler(requests[number].environ, max_connections=5)
            statuses.add(answer.status[:3])

        together(16, come)
        assert sorted(statuses.now()) == ["101"] * 5 + ["503"] * 11
        assert hub.statistics().wsgi_moved == 5


def test_wsgi_request_racing_with_close_gets_1001_or_is_refused() -> None:
    with contextlib.ExitStack() as stack:
        requests = [stack.enter_context(Request()) for _ in range(8)]
        hub = stack.enter_context(a_hub())
        going_away = (1001).to_bytes(2, "big") + b"the server is going away"

        def come(number: int) -> None:
            if number == 8:
                hub.close(TIMEOUT)
                return
            request, said = requests[number], b""
            if hub.websocket_handler(request.environ).status[:3] == "503":
                return
            # A client with a 101 gets 1001.  The others get an answer of the hub, or none.
            while going_away not in said and (part := request.peer.recv(1000)):
                said += part
            request.peer.shutdown(socket.SHUT_WR)
            assert going_away in said or b"101 Switching" not in said, said

        together(9, come)
        assert hub.statistics().wsgi_moved == 0


def test_wsgi_request_to_a_closed_hub_is_refused() -> None:
    with a_hub() as hub:
        hub.close()
        refused(hub, 503, "going away")


def test_wsgi_request_passed_twice_is_refused() -> None:
    with a_hub() as hub, Request() as request:
        hub.websocket_handler(request.environ)
        with pytest.raises(UsageError, match="once for each request"):
            hub.websocket_handler(request.environ)
        assert status_of(request.head()) == 101
        assert hub.statistics().wsgi_moved == 1


@pytest.mark.parametrize(
    "begin",
    [
        lambda hub: hub.start(),
        lambda hub: HotlineFrameOption(dict).run(hub.hotline()),  # its clock has a thread
    ],
)
def test_wsgi_hub_started_before_the_fork_is_refused(begin: Callable[[AnyHub], object]) -> None:
    with a_hub() as hub, Request() as request:
        begin(hub)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                hub.websocket_handler(request.environ)
            except UsageError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with open(reading) as told:
            assert "was started in another process" in told.read()
        os.waitpid(child, 0)


def test_wsgi_forked_process_ending_leaves_the_clients_alone() -> None:
    came = threading.Event()
    with a_hub(on_connection_start=lambda ctx, meta: came.set()) as hub, Request() as request:
        hub.websocket_handler(request.environ)
        request.head()
        assert came.wait(TIMEOUT)
        child = os.fork()
        if child == 0:
            ending._end()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        hub.broadcast("still here")
        assert request.peer.recv(100) == b"\x81\x0astill here"


def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if "-reader" in thread.name:  # its own one, or those that are shared
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)


def no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", fail)


@pytest.mark.parametrize("used_up", [no_threads, no_descriptors])
def test_wsgi_without_a_thread_or_descriptor_leaves_the_server_its_connection(
    used_up: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_hub(logger=(logs := Logs())) as hub:
        hub.start()
        used_up(monkeypatch)
        for _ in range(3):
            refused(hub, 503, "full")
        assert hub.statistics().wsgi_moved == 0
        assert ["no thread or descriptor" in each for each in logs.warnings()] == [True]


def test_wsgi_connection_that_cannot_be_moved_parks_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hubthread.serving.wsgi.CAN_HIJACK", False)  # as on Windows
    parked = threading.Event()
    heard: Items[Any] = Items()

    def hear(ctx: Any, meta: Any) -> bool:
        heard.add(ctx.payload)
        return True

    with (
        a_hub(on_connection_start=lambda ctx, meta: parked.set(), on_receive_message=hear) as hub,
        Request() as request,
    ):
        # In the server's buffer when the hub gets the request.
        request.peer.sendall(b"x" + masked_frame("first"))
        assert request.environ["wsgi.input"].read(1) == b"x"

        def talk() -> tuple[int, int]:
            assert parked.wait(TIMEOUT)
            statistics = hub.statistics()
            assert status_of(request.head()) == 101
            assert hub.clients()[0].connection_id == 1
            request.peer.sendall(masked_frame("second"))
            heard.wait(2)
            hub.clients()[0].close()
            request.peer.shutdown(socket.SHUT_WR)
            return statistics.wsgi_moved, statistics.wsgi_parked

        figures = in_thread(talk)
        assert hub.websocket_handler(request.environ).status[:3] == "101"
        assert figures() == (0, 1)
        assert hub.statistics().wsgi_parked == 0
        assert heard.now() == ["first", "second"]
        assert read_to_end(request.peer).startswith(b"\x88")
