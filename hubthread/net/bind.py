"""Open the sockets that a server listens on (TCP, UDP and Unix), or take sockets of the program.

Layer: net.  Threads: any thread may call these functions.  Only the look-up of a host name waits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from hubthread.errors import SettingError, SettingTypeError

__all__ = [
    "HAS_REUSE_PORT",
    "HAS_UNIX",
    "Bound",
    "address_of",
    "check_listenable",
    "is_loopback",
    "open_tcp",
    "open_udp",
    "open_unix",
    "peer_of",
    "take_sock",
]

Address = tuple[str, int] | str
"""``(host, port)``, or the path of a Unix socket."""

HAS_UNIX = hasattr(socket, "AF_UNIX")
HAS_REUSE_PORT = hasattr(socket, "SO_REUSEPORT")

_TRIES = 20
"""Free ports to try: a port that is free at one address of a name may be taken at another."""
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""The errors for an address of a name that this machine lacks, such as ``::1`` without IPv6."""


@dataclass(frozen=True)
class Bound:
    """The sockets of one server: one for each address of its host name, all on one port."""

    socks: tuple[socket.socket, ...]
    path: str | None = None
    """The file of a Unix socket, which ``close`` removes."""
    skipped: tuple[str, ...] = ()
    """The addresses of the name that this machine does not have."""

    def close(self) -> None:
        """Close the sockets, and remove the file."""
        # The file first: once the socket is closed, another server may have made a new file.
        if self.path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        for sock in self.socks:
            sock.close()


def open_tcp(host: str, port: int, backlog: int, *, reuse_port: bool = False) -> Bound:
    """Return listening TCP sockets at all addresses of ``host``.

    :param port: 0 takes a free port.
    :param backlog: the number of connections that may wait to be accepted.
    :param reuse_port: let other processes listen on the port, too.
    :raises OSError: with the address in its text.
    """

    def prepare(sock: socket.socket) -> None:
        if os.name == "posix":
            # Let a restarted server bind while the kernel still holds old connections.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _share(sock, reuse_port=reuse_port)

    with _naming(_place(host, port)):
        bound = _bind_all(host, port, socket.SOCK_STREAM, prepare)
        try:
            for sock in bound.socks:
                sock.listen(backlog)
        except OSError:
            bound.close()
            raise
    return bound


def open_udp(host: str, port: int, *, reuse_port: bool = False) -> Bound:
    """Return UDP sockets that are bound to all addresses of ``host``.

    :param port: 0 takes a free port.
    :param reuse_port: let other processes bind the port, too.
    :raises OSError: with the address in its text.
    """

    def prepare(sock: socket.socket) -> None:
        _share(sock, reuse_port=reuse_port)

    with _naming(_place(host, port)):
        return _bind_all(host, port, socket.SOCK_DGRAM, prepare)


def open_unix(path: str, backlog: int, mode: int | None = None) -> Bound:
    """Return a listening Unix socket at ``path``; replace the file of a dead server.

    :param path: a file's path, or an abstract name of Linux, which begins with a NUL.
    :param backlog: the number of connections that may wait to be accepted.
    :param mode: the permissions of the file; ``None`` leaves them to the umask.
    :raises OSError: with the path in its text.
    """
    abstract = path.startswith("\0")
    with _naming(path.replace("\0", "@", 1)):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound = Bound((sock,))
        try:
            if not abstract:
                _remove_dead(path)
            sock.bind(path)
            if not abstract:
                bound = Bound((sock,), path)
                if mode is not None:
                    os.chmod(path, mode)  # before ``listen``: nobody can connect yet
            sock.listen(backlog)
        except OSError:
            bound.close()
            raise
    return bound


def check_listenable(sock: object) -> None:
    """Refuse an object that ``take_sock`` cannot listen on.

    :raises SettingError: for a socket that is closed, connected or not bound.
    :raises SettingTypeError: for anything but a stream socket of IPv4, IPv6 or Unix.
    """
    wanted = f"expected a bound stream socket of IPv4, IPv6 or Unix, got {sock!r}"
    families = [socket.AF_INET, socket.AF_INET6, *([socket.AF_UNIX] if HAS_UNIX else [])]
    if (
        not isinstance(sock, socket.socket)
        or sock.type != socket.SOCK_STREAM
        or sock.family not in families
    ):
        raise SettingTypeError("sock", wanted)
    if sock.fileno() < 0:
        raise SettingError("sock", f"{wanted}: it is closed")
    if not _is_bound(sock):
        raise SettingError("sock", f"{wanted}: call bind first")
    with contextlib.suppress(OSError):
        sock.getpeername()
        raise SettingError("sock", f"{wanted}: it is connected")


def take_sock(sock: socket.socket, backlog: int) -> Bound:
    """Return the program's own bound socket, listening.  Its file, if it has one, stays.

    :raises OSError: with the address in its text.
    """
    address = address_of(sock)
    place = address.replace("\0", "@") if isinstance(address, str) else _place(*address)
    with _naming(place):
        sock.listen(backlog)
    return Bound((sock,))


def address_of(sock: socket.socket) -> Address:
    """Return the address that ``sock`` is bound to; a link-local one with its zone."""
    name = sock.getsockname()
    if isinstance(name, bytes):  # an abstract name of Linux
        return os.fsdecode(name)
    if isinstance(name, str):
        return name
    host: str = name[0]
    if len(name) == 4 and name[3] and "%" not in host:
        with contextlib.suppress(OSError):
            host = f"{host}%{socket.if_indextoname(name[3])}"
    return host, name[1]


def is_loopback(address: Address) -> bool:
    """Return True if only this machine can connect to ``address``; False for a Unix socket."""
    return not isinstance(address, str) and ip_address(address[0].partition("%")[0]).is_loopback


def peer_of(name: object, local: Address) -> Address:
    """Return the address of a peer, as ``accept`` and ``recvfrom`` return it.

    An IPv4 peer of an IPv6 socket gets its IPv4 address, without ``::ffff:``.

    :param local: the address of the socket, which stands for peers without one (Unix).
    """
    if not isinstance(name, tuple):
        return local
    host: str = name[0]
    if host.startswith("::ffff:") and "." in host:
        host = host[7:]
    return host, name[1]


def _is_bound(sock: socket.socket) -> bool:
    name = sock.getsockname()
    return bool(name if isinstance(name, str | bytes) else name[1])


def _share(sock: socket.socket, *, reuse_port: bool) -> None:
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


_Place = tuple[socket.AddressFamily, tuple[object, ...]]


def _bind_all(
    host: str, port: int, kind: socket.SocketKind, prepare: Callable[[socket.socket], None]
) -> Bound:
    """Return a socket for each address of ``host``, bound to one port."""
    found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    places = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    for tries_left in reversed(range(1 if port or len(places) == 1 else _TRIES)):
        try:
            return _bind_each(places, kind, prepare)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not tries_left:
                raise
    raise AssertionError("the last try raises")


def _bind_each(
    places: Sequence[_Place], kind: socket.SocketKind, prepare: Callable[[socket.socket], None]
) -> Bound:
    """Bind a socket at each of ``places``, at the port that the first of them gets."""
    socks: list[socket.socket] = []
    skipped = []
    port = places[0][1][1]
    absent: OSError | None = None
    for family, address in places:
        # As the only place, '::' means all IPv6 and IPv4 addresses, on every system.
        dual = address[0] == "::" and len(places) == 1
        try:
            sock = _bind_one((family, (address[0], port, *address[2:])), kind, prepare, dual=dual)
        except OSError as error:
            if error.errno not in _ABSENT:
                Bound(tuple(socks)).close()
                raise
            absent = error
            skipped.append(str(address[0]))
        else:
            socks.append(sock)
            port = sock.getsockname()[1]
    if not socks:
        assert absent is not None
        raise absent
    return Bound(tuple(socks), None, tuple(skipped))


def _bind_one(
    place: _Place,
    kind: socket.SocketKind,
    prepare: Callable[[socket.socket], None],
    *,
    dual: bool,
) -> socket.socket:
    family, address = place
    sock = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):  # some systems have no dual stack
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
        prepare(sock)
        sock.bind(address)
    except BaseException:  # an interrupt, too
        sock.close()
        raise
    return sock


def _remove_dead(path: str) -> None:
    """Remove the socket file at ``path`` if no server listens on it."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)  # a server with a full backlog blocks connect
                if probe.connect_ex(path) == errno.ECONNREFUSED:
                    os.unlink(path)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def _naming(place: str) -> Iterator[None]:
    """Put ``place`` into the text of an error."""
    try:
        yield
    except UnicodeError:  # getaddrinfo could not encode the name
        raise OSError(
            errno.EINVAL, f"cannot listen on {place}: this is not a valid host name"
        ) from None
    except OSError as error:
        why = error.strerror or error  # the error of an overlong address has no strerror
        raise OSError(error.errno, f"cannot listen on {place}: {why}") from None
