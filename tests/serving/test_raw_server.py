"""The servers of raw peers: limits, closing, TLS, wrong values."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from hubthread import ConnectionProtocols, Hub, HubSetting, SettingError
from tests.support import TcpPeer, connect, ended, fence, listen, serving, tcp_peer, udp_peer

DATA = Path(__file__).parents[1] / "data"
TCP, UDP = ConnectionProtocols.TCP, ConnectionProtocols.UDP


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def test_raw_server_closed_keeps_tcp_clients() -> None:
    """New peers are refused."""
    with serving(on_receive_message=echo) as s, listen(s) as server, tcp_peer(server) as peer:
        s.came()
        assert s.hub.servers()[-1] is server
        server.close()
        assert server not in s.hub.servers()
        peer.send(b"still\n")
        assert peer.line() == "still"
        with pytest.raises(OSError, match="refused"):
            connect(server)


def test_raw_server_over_max_peers_closes_peer() -> None:
    """The peer is closed at once, without HTTP, and the server counts it."""
    with serving(on_receive_message=echo) as s:
        server = s.hub.socket_handles("127.0.0.1", 0, TCP, max_peers=1)
        with tcp_peer(server) as peer:
            s.came()
            with tcp_peer(server) as late:
                assert late.rest() == b""
            peer.send(b"me\n")
            assert peer.line() == "me"
        statistics = server.statistics()
        assert (statistics.accepted, statistics.refused) == (1, 1)
        assert s.hub.statistics().limits_struck["connections"] == 1
        host, port = server.address
        assert statistics.address == f"{host}:{port}"
        assert server.url == f"tcp://{host}:{port}"
        assert repr(server).startswith(f"<SocketServer tcp://{host}:{port} ")


def test_raw_server_tls_serves_and_refuses_plain() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "localhost.pem", DATA / "localhost.key")
    trusting = ssl.create_default_context(cafile=str(DATA / "localhost.pem"))
    with serving(on_receive_message=echo) as s:
        server = s.hub.socket_handles("127.0.0.1", 0, TCP, ssl=context)
        assert server.url.startswith("tls://127.0.0.1:")
        sock = trusting.wrap_socket(connect(server), server_hostname="localhost")
        peer = TcpPeer(sock)
        assert s.came().handshake.secure
        peer.send(b"in secret\n")
        assert peer.line() == "in secret"
        s.hub.clients()[0].close()
        assert peer.end() == b""
        with tcp_peer(server) as plain:
            plain.send(b"in the open, and longer than the head of a record\n")
            plain.rest()
        s.logs.wait("request refused: 400 SSLError")
        assert s.hub.statistics().clients_total == 1


def test_raw_server_closed_keeps_udp_peers() -> None:
    """New peers are refused; the socket closes after the last peer."""
    with serving(on_receive_message=echo) as s, listen(s, UDP) as server:
        with udp_peer(server) as peer, udp_peer(server) as late:
            peer.send(b"1")
            assert peer.message() == b"1"
            server.close()
            assert s.hub.servers() == [s.server]
            late.send(b"1")
            peer.send(b"2")
            assert peer.message() == b"2"
            assert server.statistics().refused == 1
            s.came().close()
            ended(s)
        # An address of its own: on 127.0.0.1 another test may get the port.
        with s.hub.socket_handles("127.0.0.9", 0, UDP) as unused:
            unused.close()
            again = s.hub.socket_handles(*unused.address, UDP)
            assert again.url == f"udp://127.0.0.9:{unused.address[1]}"


def test_raw_server_closing_hub_refuses_udp_peer() -> None:
    with serving() as s:
        listen(s, UDP)
        s.hub._core.connections.cut_handshakes()
        with udp_peer(s.hub.servers()[-1]) as peer:  # type: ignore[arg-type]
            peer.send(b"too late")
            while not s.hub.servers()[-1].statistics().refused:
                fence(s.hub)
        assert s.hub.statistics().clients_total == 0
        assert s.hub.servers()[-1].statistics().connections == 0


def test_socket_handles_udp_with_tls_raises() -> None:
    hub = Hub[Any, Any](HubSetting(dict))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(SettingError, match="ssl: for TCP only"):
        hub.socket_handles("127.0.0.1", 0, UDP, ssl=context)
    hub.close()
