"""TLS on a hub: load in both directions, renewed certificates, peers that stall or break off."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubthread import ConnectionProtocols, SettingError, Upgrader
from tests.support import (
    DATA,
    TIMEOUT,
    RawPeer,
    Serving,
    client_context,
    connect,
    masked_frame,
    raw_handshake,
    read_to_end,
    server_context,
    serving,
)
from tests.test_cli import APP, started

Record = Callable[[str, object], None]


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def other_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "other.pem", DATA / "other.key")
    return context


def trusting_both() -> ssl.SSLContext:
    context = client_context()
    context.load_verify_locations(str(DATA / "other.pem"))
    return context


def wrapped(sock: socket.socket, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    trust = trusting_both() if context is None else context
    try:
        return trust.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
    except BaseException:
        sock.close()
        raise


def certificate(peer: ssl.SSLSocket) -> str:
    """Return ``first`` or ``second``: the certificate that the server has shown."""
    shown = peer.getpeercert()
    assert shown is not None
    return "second" if "the second" in str(shown["subject"]) else "first"


def test_renew_ssl_serves_new_handshakes_without_a_restart(record_property: Record) -> None:
    """An old connection goes on.  Renewed all the time, each handshake finds a pair."""
    contexts = [server_context(), other_context()]
    with serving(serve={"ssl": contexts[0]}, on_receive_message=echo) as s:
        old = wrapped(connect(s.server))
        assert certificate(old) == "first"
        with RawPeer(old) as before:
            s.server.renew_ssl(contexts[1])
            new = wrapped(connect(s.server))
            assert certificate(new) == "second"
            with RawPeer(new) as after:
                for peer in (before, after):
                    peer.send("hello")
                    assert peer.message() == "hello"
            for number in range(60):
                s.server.renew_ssl(contexts[number % 2])
                with wrapped(connect(s.server)) as peer_:
                    assert certificate(peer_) == ("first", "second")[number % 2]
    record_property("seen", "60 renewals, 60 handshakes, each with the latest; the old one stays")


def test_renew_ssl_of_a_raw_server_serves_new_handshakes() -> None:
    with serving(on_receive_message=echo) as s:
        server = s.hub.socket_handles(
            "127.0.0.1", 0, ConnectionProtocols.TCP, ssl=server_context()
        )
        server.renew_ssl(other_context())
        with wrapped(connect(server)) as peer:
            assert certificate(peer) == "second"
            peer.sendall(b"hello\n")
            assert peer.recv(100) == b"hello\n"


def test_renew_ssl_with_an_unfit_context_raises() -> None:
    """Nothing has changed then.  A server without TLS has no context to renew."""
    wrong: Any = "other.pem"
    with serving(serve={"ssl": server_context()}) as s:
        for context in (wrong, ssl.create_default_context()):
            with pytest.raises(SettingError, match=r"ssl\.SSLContext for servers"):
                s.server.renew_ssl(context)
            with pytest.raises(SettingError, match=r"ssl\.SSLContext for servers"):
                s.hub.serve(ssl=context)
            with pytest.raises(SettingError, match=r"ssl\.SSLContext for servers"):
                s.hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.TCP, ssl=context)
        with wrapped(connect(s.server)) as peer:
            assert certificate(peer) == "first"
        plain = s.hub.serve()
        with pytest.raises(SettingError, match="without ssl="):
            plain.renew_ssl(server_context())
        with connect(plain) as sock:
            sock.sendall(raw_handshake())
            assert sock.recv(100).startswith(b"HTTP/1.1 101")


def test_sighup_reads_the_certificate_again(tmp_path: Path, record_property: Record) -> None:
    """``hubthread serve`` reports a broken file and keeps the certificate that it has."""
    (tmp_path / "app.py").write_text(APP)
    files = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(name: str) -> None:
        for file, end in zip(files, ("pem", "key"), strict=True):
            file.write_bytes((DATA / f"{name}.{end}").read_bytes())

    install("localhost")
    arguments = ("--certfile", str(files[0]), "--keyfile", str(files[1]))
    with started("serve", "app:echo", "--port", "0", *arguments, cwd=tmp_path) as command:
        port = int(command.url.rstrip("/").rpartition(":")[2])

        def shown() -> str:
            with wrapped(socket.create_connection(("127.0.0.1", port), TIMEOUT)) as peer:
                return certificate(peer)

        assert shown() == "first"
        files[1].write_text("no key")
        command.tell(signal.SIGHUP)
        assert command.process.stderr is not None
        assert "stays in use: no certificate in" in command.process.stderr.readline()
        assert shown() == "first"
        install("other")
        command.tell(signal.SIGHUP)
        handshakes = 1
        while shown() == "first":  # a signal has no answer, so look until it has worked
            handshakes += 1
            assert handshakes < 5_000
        command.tell(signal.SIGTERM)
        assert command.end() == (0, "", "")
    record_property("seen", "broken files: one error, the old one stays; good ones: in use")


def ends(sock: socket.socket) -> bytes:
    """Read to the end of the stream, or to its reset."""
    with contextlib.suppress(OSError):
        return read_to_end(sock)
    return b""


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_tls_stalled_handshake_ends_at_its_timeout(begun: bytes, record_property: Record) -> None:
    """One that may stall for long keeps no other peer out."""
    serve = {"ssl": server_context()}
    with serving(upgrader=Upgrader(handshake_timeout=0.2), serve=serve) as s:
        with connect(s.server) as stalled, connect(s.server) as slow:
            stalled.sendall(begun)
            slow.sendall(begun)
            ends(stalled)
            ends(slow)
        assert s.hub.statistics().handshakes_refused == 2
        assert s.hub.statistics().clients_total == 0
        assert s.logs.warnings() == []
    patient = Upgrader(handshake_timeout=10 * TIMEOUT)
    with serving(upgrader=patient, serve=serve) as s, connect(s.server) as stalled:
        stalled.sendall(begun)
        with contextlib.closing(wrapped(connect(s.server))) as sock:
            sock.sendall(raw_handshake())
            assert sock.recv(1000).startswith(b"HTTP/1.1 101")
    record_property("seen", "2 stalled handshakes let go at their time-out; another peer came in")


def no_close_notify(sock: ssl.SSLSocket) -> None:
    """End the stream as a program that crashes does."""
    sock.shutdown(socket.SHUT_WR)  # of the TCP stream, without TLS's close_notify


def close_notify(sock: ssl.SSLSocket) -> None:
    sock.settimeout(TIMEOUT)
    with contextlib.suppress(OSError):
        sock.unwrap().close()


def half_a_record(sock: ssl.SSLSocket) -> None:
    raw = socket.socket(fileno=sock.detach())
    with raw:
        raw.sendall(b"\x17\x03\x03\x00\x40half")


def garbage(sock: ssl.SSLSocket) -> None:
    with socket.socket(fileno=sock.detach()) as raw:
        raw.sendall(b"in the open, although TLS was agreed on\r\n\r\n")


@pytest.mark.parametrize("end", [no_close_notify, close_notify, half_a_record, garbage])
def test_tls_stream_end_of_any_kind_ends_its_client_only(
    end: Callable[[ssl.SSLSocket], None], record_property: Record
) -> None:
    """A neighbour stays, and nothing is logged."""
    with serving(serve={"ssl": server_context()}, on_receive_message=echo) as s:
        sock, neighbour = wrapped(connect(s.server)), RawPeer(wrapped(connect(s.server)))
        s.came()
        sock.sendall(raw_handshake())
        assert sock.recv(1000).startswith(b"HTTP/1.1 101")
        client = s.came()
        end(sock)
        assert client.context.wait(TIMEOUT)
        sock.close()
        neighbour.send("hello")
        assert neighbour.message() == "hello"
        neighbour.close()
        assert s.hub.statistics().clients_total == 2
        assert s.logs.warnings() == []
    record_property("seen", "the client is gone, the neighbour stays, no warning")


class Openssl:
    """``openssl s_client``, which changes keys or renegotiates on a command."""

    def __init__(self, port: int, version: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            pytest.skip("needs the openssl program")
        self.process = subprocess.Popen(
            [program, "s_client", "-connect", f"127.0.0.1:{port}", version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.said = b""

    def tell(self, data: bytes, answer: bytes) -> None:
        """Type ``data``, and wait for ``answer`` in the output."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()
        while answer not in self.said:
            more = self.more()
            assert more, self.said
            self.said += more

    def more(self) -> bytes:
        """Return the next output; nothing when the program has ended."""
        out = self.process.stdout
        assert out is not None
        assert select.select([out], [], [], TIMEOUT)[0]
        return os.read(out.fileno(), 65536)

    def __enter__(self) -> Openssl:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.parametrize("command", [b"k", b"K"])
def test_tls_key_update_keeps_the_connection(command: bytes, record_property: Record) -> None:
    """TLS 1.3 changes the keys of the peer (k) or of both sides (K)."""
    with serving(serve={"ssl": server_context()}, on_receive_message=echo) as s:
        with Openssl(s.server.address[1], "-tls1_3") as peer:  # type: ignore[arg-type]
            peer.tell(raw_handshake(), b"101 Switching Protocols")
            peer.tell(masked_frame("before"), b"before")
            for number in range(3):
                peer.said = b""
                peer.tell(command + b"\n", b"KEYUPDATE")
                peer.tell(masked_frame(f"after {number}"), b"after %d" % number)
        assert s.came().context.wait(TIMEOUT)
        assert s.logs.warnings() == []
    record_property("seen", "three changes of keys, an echo after each")


def test_tls_renegotiation_is_refused(record_property: Record) -> None:
    """TLS 1.2.  OpenSSL's refusal ends the client that asks, and a neighbour stays."""
    with serving(serve={"ssl": server_context()}, on_receive_message=echo) as s:
        neighbour = RawPeer(wrapped(connect(s.server)))
        s.came()
        with Openssl(s.server.address[1], "-tls1_2") as peer:  # type: ignore[arg-type]
            peer.tell(raw_handshake(), b"101 Switching Protocols")
            client = s.came()
            peer.tell(masked_frame("before"), b"before")
            peer.tell(b"R\n", b"no renegotiation")
            while peer.more():
                pass
            assert client.context.wait(TIMEOUT)
        neighbour.send("hello")
        assert neighbour.message() == "hello"
        neighbour.close()
        assert s.logs.warnings() == []
    record_property("seen", "refused; the client is gone, the neighbour stays")


def test_tls_after_our_close_the_peer_may_still_send() -> None:
    """The server has sent its Close and close_notify, and must not reset the peer."""
    with serving(serve={"ssl": server_context()}) as s:
        peer = RawPeer(wrapped(connect(s.server)))
        client = s.came()
        client.close(4000, "enough")
        assert peer.closed() == (4000, "enough")
        peer.sock.sendall(masked_frame("x" * 50_000))
        peer.send_close(4000)
        assert peer.at_end()
        peer.close()


def refused(s: Serving) -> int:
    return s.hub.statistics().handshakes_refused
