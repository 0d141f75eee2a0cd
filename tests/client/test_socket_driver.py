"""A link over real sockets: servers that are slow, wrong or hostile, proxies, TLS, threads."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from hubthread.client import Link, Lost, Refused, TimedOut, connect
from hubthread.protocol.frames import Frame, MessageType
from tests.client.servers import HELLO, Listening, Peer, listening, text, tunnel
from tests.support import (
    TIMEOUT,
    Gate,
    Items,
    Task,
    client_context,
    server_context,
    serving,
)


def wait_until_waiting(link: Link) -> None:
    """Wait until the link waits before its next attempt."""
    seen: Items[str] = Items()
    off = link.on("state", lambda state, reason: seen.add(state))
    seen.add(link.state)
    try:
        seen.until(lambda states: "waiting" in states)
    finally:
        off()


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """Keep a port of localhost on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def ended(server: Listening, **options: Any) -> Link:
    """Connect, and wait until the link has ended."""
    link = Link(server.url, **options)
    try:
        link.connect()
        with pytest.raises(Refused):
            link.wait_open(TIMEOUT)
        assert link.state == "ended"
    finally:
        link.close()
    return link


def polite(peer: Peer) -> None:
    """Serve until the client says Close."""
    peer.hello()
    while peer.read() != 1000:
        pass
    peer.close(1000)


def test_connect_returns_an_open_link_and_close_says_goodbye() -> None:
    goodbye: Items[object] = Items()

    def serve(peer: Peer) -> None:
        peer.hello()
        goodbye.add(peer.read())
        peer.close(1000)
        peer.wait_end()

    with listening(serve) as server:
        with connect(server.url) as link:
            assert link.state == "open"
        assert goodbye.wait(1) == [1000]


def test_request_of_the_handshake_has_what_the_program_wants() -> None:
    with listening(polite) as server:
        fields = {"X-App": "bot"}
        with connect(server.url, headers=fields, cookies={"a": "1", "b": "2"}):
            peer = server.came.wait(1)[0]
        assert peer.head.startswith(b"GET /ws HTTP/1.1\r\n")
        assert peer.field("Host") == f"localhost:{server.port}"
        assert (peer.field("X-App"), peer.field("Cookie")) == ("bot", "a=1; b=2")
        assert peer.field("Sec-WebSocket-Protocol") == "hubthread.1"


def test_frames_in_the_segment_of_the_handshake_are_heard() -> None:
    def serve(peer: Peer) -> None:
        peer.shake(text({"type": "welcome"}) + text(HELLO) + text({"type": "said"}))
        peer.wait_end()

    with listening(serve) as server, connect(server.url) as link:
        assert link.receive(TIMEOUT) == {"type": "welcome"}
        assert link.receive(TIMEOUT) == {"type": "said"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "the server does not speak HTTP/1.1"),
        (b"\x00" * 100, "the server does not speak HTTP/1.1"),
        (b"HTTP/1.1 101 Fine\r\nX: " + b"x" * 50_000, "the server does not speak HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "there is no WebSocket at this address"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "there is no WebSocket at this address"),
        (b"HTTP/1.1 404 No\r\n\r\n", "the server refuses (404)"),
        (
            b"HTTP/1.1 101 Fine\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "the server does not accept the handshake: Sec-WebSocket-Accept is wrong",
        ),
    ],
)
def test_wrong_answer_to_the_handshake_ends_the_link(answer: bytes, reason: str) -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(answer)
        peer.wait_end()

    with listening(serve) as server:
        assert ended(server).reason.startswith(reason)
        assert len(server.came.now()) == 1


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (text({"type": "hub:hello", "error": "no"}), "the server refuses: no"),
        (text("x") * 65, "the server sent no hub:hello"),
        (b"\x81\x85abcdhello", "the server breaks the protocol: client received unexpected mask"),
        (b"\x83\x00", "the server breaks the protocol: Invalid opcode"),
        (b"\x81\x01\xff", "the server breaks the protocol: "),
        (b"\xc1\x00", "the server breaks the protocol: "),
        (
            b"\x81\x7f" + (1 << 40).to_bytes(8, "big"),
            "the server breaks the protocol: message of more than 1000 bytes",
        ),
        (
            (b"\x01\x7e\x01\xf4" + b"a" * 500) + (b"\x00\x7e\x01\xf5" + b"a" * 501),
            "the server breaks the protocol: message of more than 1000 bytes",
        ),
        (b"\x88\x01a", "the server breaks the protocol: a Close of one byte"),
    ],
)
def test_server_that_breaks_the_protocol_ends_the_link(sent: bytes, reason: str) -> None:
    def serve(peer: Peer) -> None:
        peer.shake(sent)
        peer.wait_end()

    with listening(serve) as server:
        assert ended(server, max_message=1000).reason.startswith(reason)
        assert len(server.came.now()) == 1


def test_lost_connection_comes_back_with_the_session() -> None:
    heard: Items[Any] = Items()

    def first(peer: Peer) -> None:
        peer.shake()
        heard.add(peer.read())
        peer.send({**HELLO, "session": "s1"})

    def second(peer: Peer) -> None:
        peer.shake()
        heard.add(peer.read())
        peer.send(HELLO)
        polite_rest(peer)

    with listening(first, second) as server, Link(server.url) as link:
        link.connect()
        assert [each.get("resume") for each in heard.wait(2)] == [None, "s1"]


def polite_rest(peer: Peer) -> None:
    while peer.read() != 1000:
        pass
    peer.close(1000)


def test_server_that_cannot_be_reached_is_tried_again() -> None:
    with nobody() as port, Link(url := f"ws://127.0.0.1:{port}/") as link:
        link.connect()
        wait_until_waiting(link)
        with pytest.raises(TimedOut, match="the server cannot be reached: Connection refused"):
            link.wait_open(0.01)
        with pytest.raises(TimedOut):
            connect(url, wait=0.01)


def test_name_that_does_not_exist_is_told() -> None:
    with Link("ws://no-such-host.invalid/") as link:
        link.connect()
        wait_until_waiting(link)
        with pytest.raises(TimedOut, match="the server cannot be reached: "):
            link.wait_open(0.01)


def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    found = socket.getaddrinfo

    def look_up(host: str, port: int, **options: Any) -> Any:
        return [*found("127.0.0.1", gone, **options), *found("127.0.0.1", port, **options)]

    with listening(polite) as server, nobody() as gone:
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with connect(server.url) as link:
            assert link.state == "open"


WAITS: dict[str, Callable[[Link], object]] = {
    "request": lambda link: link.request("q", timeout=TIMEOUT * 10),
    "receive": lambda link: link.receive(),
    "iterate": lambda link: next(iter(link)),
    "room": lambda link: link.room("r").receive(),
    "wait_open": lambda link: link.wait_open(TIMEOUT * 10),
}


def silent(peer: Peer) -> None:
    """Accept the connection, and say nothing."""
    peer.wait_end()


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("serve", [silent, Peer.shake, polite])
def test_close_ends_every_wait(name: str, serve: Callable[[Peer], object]) -> None:
    """From another thread, in every stage of the connection."""

    def serve_on(peer: Peer) -> None:
        serve(peer)
        peer.wait_end()

    with listening(serve_on) as server:
        link = Link(server.url)
        link.connect()
        server.came.wait(1)
        if serve is polite:
            link.wait_open(TIMEOUT)
        task = Task(lambda: WAITS[name](link))
        link.close()
        if name == "wait_open" and serve is polite:
            task.join()
            return
        with pytest.raises((Lost, StopIteration)):
            task.result()


def test_close_in_a_callback_does_not_wait_for_itself() -> None:
    def serve(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "said"})
        peer.wait_end()

    with listening(serve) as server:
        done: Items[bool] = Items()
        link = Link(server.url)

        def said(message: object) -> None:
            link.close()
            done.add(link.closed)

        link.on("said", said)
        link.connect()
        assert done.wait(1) == [True]
        link.close()


def test_messages_of_many_threads_arrive_whole() -> None:
    count, size = 50, 20_000
    came: list[Any] = []

    def serve(peer: Peer) -> None:
        peer.hello()
        came.extend(peer.read() for _ in range(4 * count))
        peer.send({"type": "done"})
        polite_rest(peer)

    with listening(serve) as server, connect(server.url, message_bytes=100 << 20) as link:

        def send(name: int) -> None:
            for number in range(count):
                while link.send("a", {"by": name, "n": number, "x": "x" * size}) == "dropped":
                    pass

        threads = [threading.Thread(target=send, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert link.receive(TIMEOUT) == {"type": "done"}
    for name in range(4):
        assert [each["n"] for each in came if each["by"] == name] == list(range(count))


def test_callback_that_blocks_keeps_no_message_back() -> None:
    """What the socket does not take at once goes out on a thread of its own."""
    size = 8 << 20
    came: Items[int] = Items()

    def serve(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "go"})
        came.add(len(peer.read()["x"]))
        polite_rest(peer)

    with listening(serve) as server, Link(server.url) as link:
        blocked = Gate()

        def go(message: object) -> None:
            link.send("big", {"x": "x" * size})
            blocked()

        link.on("go", go)
        link.connect()
        assert came.wait(1) == [size]
        blocked.open()


def test_tls_verifies_the_server() -> None:
    with listening(polite, tls=server_context()) as server:
        with connect(server.url, ssl=client_context()) as link:
            assert link.state == "open"
        assert "the certificate of the server is refused" in ended(server).reason


def test_tls_to_a_plain_server_ends_the_link() -> None:
    def serve(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(serve) as server:
        link = Link(server.url.replace("ws://", "wss://"))
        link.connect()
        with link, pytest.raises(Refused, match="the server does not speak TLS"):
            link.wait_open(TIMEOUT)


@pytest.mark.parametrize("tls", [False, True])
def test_proxy_tunnels_to_the_server(*, tls: bool) -> None:
    user = "Basic bWU6c2VjcmV0"  # me:secret
    with (
        listening(polite, tls=server_context() if tls else None) as server,
        listening(partial(tunnel, port=server.port, user=user)) as proxy,
    ):
        url = f"http://me:secret@localhost:{proxy.port}"
        with connect(server.url, proxy=url, ssl=client_context() if tls else None) as link:
            assert link.state == "open"
        assert len(server.came.now()) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n", "the proxy refuses (407)"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "the proxy refuses (403)"),
        (b"HTTP/1.1 200 Fine\r\n\r\nmore", "the proxy has sent something of its own"),
        (b"SOCKS?\r\n\r\n", "the server does not speak HTTP/1.1"),
    ],
)
def test_proxy_that_refuses_ends_the_link(answer: bytes, reason: str) -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(answer)
        peer.wait_end()

    with listening(serve) as proxy:
        found = ended(proxy, proxy=f"http://localhost:{proxy.port}").reason
        assert found.startswith(reason)


def test_hub_that_restarts_is_found_again() -> None:
    # An address of its own: on 127.0.0.1 another test may get the free port.
    host = "127.0.0.13"
    with serving(serve={"host": host}) as s:
        port = s.server.address[1]
        link = Link(s.server.url)
        link.connect()
        link.wait_open(TIMEOUT)
    wait_until_waiting(link)
    with serving(serve={"host": host, "port": port}):
        link.retry_now()
        link.wait_open(TIMEOUT)
        link.close()


FORKED = """
import os
from hubthread.client import Lost, connect

link = connect({url!r})
child = os.fork()
if child == 0:
    try:
        link.request("q", timeout=1)
    except Lost as error:
        print(error)
    print(link.send("a"), link.state)
    link.close()
    os._exit(0)
os.waitpid(child, 0)
print(link.state, link.request("q")["x"])
"""

FORGOTTEN = """
from hubthread.client import connect

link = connect({url!r})
link.send("last")
"""


def run(program: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 3,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_leaves_the_connection_to_its_parent() -> None:
    def serve(peer: Peer) -> None:
        peer.hello()
        asked = peer.read()
        peer.send({"type": "q", "reply": asked["id"], "x": 7})
        assert peer.read() == 1000
        peer.close(1000)

    with listening(serve) as server:
        lines = run(FORKED.format(url=server.url)).splitlines()
        assert lines[1:] == ["dropped idle", "open 7"]
        assert "this process was forked" in lines[0]


def test_program_that_forgets_close_ends_and_says_goodbye() -> None:
    heard: Items[Any] = Items()

    def serve(peer: Peer) -> None:
        peer.hello()
        heard.add(peer.read()["type"])
        heard.add(peer.read())
        peer.close(1000)

    with listening(serve) as server:
        run(FORGOTTEN.format(url=server.url))
        assert heard.wait(2) == ["last", 1000]


def test_link_answers_the_pings_of_its_server() -> None:
    def serve(peer: Peer) -> None:
        peer.hello()
        peer.sock.sendall(Frame(b"are you there", MessageType.PING).wire)
        assert peer.read() == b"are you there"
        peer.send({"type": "said"})
        polite_rest(peer)

    with listening(serve) as server, connect(server.url) as link:
        assert link.receive(TIMEOUT) == {"type": "said"}
