"""The command line: ``hubthread serve``, ``hubthread demo`` and more.

Exit status: 0 after an orderly end, also by Ctrl-C or SIGTERM; 1 if the command cannot listen,
cannot use the certificate or is refused by the server; 2 for wrong arguments.  With 1 and 2 a line
on stderr says why.

SIGUSR1 writes the stack of every thread to stderr and changes nothing.

Layer: top.  Threads: the main thread imports the program, starts the hub and waits for a signal.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hubthread import (
    Hub,
    HubThreadError,
    MatcherMap,
    Readers,
    Request,
    Response,
    Server,
    WrongType,
    WrongValue,
    __version__,
    bots,
    demo,
    systemd_sockets,
    terminal,
    top,
    typescript,
)
from hubthread.client import LinkOption
from hubthread.concurrency.logs import log_safely
from hubthread.examples import cards
from hubthread.loading import BadArgument, load, load_hub
from hubthread.net.tls import server_context
from hubthread.serving.client_page import FILES, client_file

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_HOST = "127.0.0.1"
_PORT = 8000

# int() also accepts " 8_0".
_DIGITS = re.compile(r"[0-9]{1,5}")
_WITH_PORT = re.compile(
    r"(?:https?://|wss?://)?(?:\[(?P<address>[^]]*)\]|(?P<name>[^:/]*)):(?P<port>[0-9]+)/?"
)
_MODE = re.compile(r"[0-7]{3}")
_LONGEST_DRAIN = 3600


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command of the process.

    The command's handlers for SIGINT and SIGTERM stay after the return.

    :param arguments: the arguments; by default those of the process.
    :returns: the exit status.
    :raises SystemExit: for arguments that do not parse, for ``--help`` and ``--version``.
    """
    chosen = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int | None] = chosen.command
    try:
        return command(chosen) or 0
    except BadArgument as error:
        return _failed(chosen.prog, error, 2)
    except OSError as error:
        return _failed(chosen.prog, error.strerror or error, 1)
    except HubThreadError as error:
        return _failed(chosen.prog, error, 1)
    except KeyboardInterrupt:  # there is no hub yet, so nothing has to be closed
        return 128 + signal.SIGINT


def _serve(chosen: argparse.Namespace) -> None:
    if chosen.keyfile is not None and chosen.certfile is None:
        raise BadArgument("argument --keyfile: needs --certfile too")
    context = None
    if chosen.monitor_actions and chosen.monitor is None:
        raise BadArgument("argument --monitor-actions: needs --monitor too")
    if chosen.certfile is not None:
        context = server_context(chosen.certfile, chosen.keyfile)
    places = _places(chosen)
    hub = load_hub(chosen.hub)
    if chosen.readers is not None:
        if hub.statistics().state != "new":
            raise BadArgument(f"argument --readers: the hub {chosen.hub} runs already")
        hub._core.read_by(Readers(chosen.readers))
    servers: list[Server] = []

    def listen() -> str:
        pages: dict[str, Callable[[Request], Response]] = {}
        if chosen.health:
            pages["/health"] = hub.health
        if chosen.metrics:
            pages["/metrics"] = hub.metrics
        servers.extend(hub.serve(**place, ssl=context, pages=pages) for place in places)
        urls = " and ".join(server.url for server in servers)
        told = f"hubthread listens on {urls} (Ctrl-C stops)"
        if chosen.monitor is not None:
            monitor = hub.monitor(actions=chosen.monitor_actions)
            told += f"\nmonitor: {monitor.url(monitor.serve(port=chosen.monitor))}"
        return told

    def renew() -> None:
        try:
            renewed = server_context(chosen.certfile, chosen.keyfile)
            for server in servers:
                server.renew_ssl(renewed)
        except OSError as error:
            why = error.strerror or error
            text = "SIGHUP: cannot read the new certificate, so the old one stays in use: %s"
            log_safely(hub.logger, logging.ERROR, text, why)

    drain = hub.setting.drain if chosen.drain is None else chosen.drain
    _run(hub, listen, None if context is None else renew, drain or None)


def _demo(chosen: argparse.Namespace) -> None:
    both, table = demo.Demo(), cards.Cards()
    place = _host_and_port(chosen)

    def listen() -> str:
        url = demo.serve(both, **place).http_url
        table.hub.start()
        both.cards_port = int(cards.serve(table, 0, place["host"]).address[1])
        monitor = both.hub.monitor(actions=True)
        # A browser cannot open the address that means "all addresses".
        url = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        return f"{url}\nmonitor: {monitor.url(monitor.serve())}"

    try:
        _run(both.hub, listen)
    finally:
        table.hub.close()


def _client_js(chosen: argparse.Namespace) -> None:
    folder = Path(chosen.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_bytes(client_file(name))
        print(folder / name)


def _types(chosen: argparse.Namespace) -> None:
    argument = "MODULE:MATCHER"
    matcher = load(chosen.matcher, argument, MatcherMap)
    if not isinstance(matcher, MatcherMap):
        raise BadArgument(
            f"argument {argument}: expected a MatcherMap; {chosen.matcher} is of type "
            f"{type(matcher).__name__}"
        )
    pushes = {name: load(name, "MODULE:TYPE", type) for name in chosen.pushes}
    try:
        typescript.check_pushes(pushes)
        print(typescript.declarations(matcher, pushes.values(), chosen.matcher), end="")
    except WrongValue as error:
        raise BadArgument(error) from None


def _connect(chosen: argparse.Namespace) -> int:
    fields = _fields(chosen)
    if chosen.plain and chosen.room:
        raise BadArgument("argument --room: not together with --plain")
    try:
        option = LinkOption(
            token=chosen.token,
            headers=fields,
            proxy=chosen.proxy,
            plain=chosen.plain,
        )
        return terminal.run(chosen.url, option, chosen.room)
    except WrongValue as error:
        raise BadArgument(error) from None


def _fields(chosen: argparse.Namespace) -> dict[str, str]:
    fields: dict[str, str] = {}
    for text in chosen.header:
        name, colon, value = text.partition(":")
        if not colon:
            raise BadArgument(f"argument --header: expected NAME: VALUE, got {text!r}")
        fields[name.strip()] = value.strip()
    return fields


def _bots(chosen: argparse.Namespace) -> int:
    bot = load(chosen.bot, "MODULE:BOT", FunctionType, "bot")
    try:
        run = bots.made_of(chosen, bot, _fields(chosen))
    except (WrongValue, WrongType) as error:
        raise BadArgument(error) from None

    def stop(number: int, frame: FrameType | None) -> None:
        run.stop()
        for each in SIGNALS:
            signal.signal(each, _exit_now)

    for each in SIGNALS:
        signal.signal(each, stop)
    return 0 if run.run() else 1


def _run(
    hub: Hub[Any, Any],
    listen: Callable[[], str],
    on_hangup: Callable[[], None] | None = None,
    drain: float | None = None,
) -> None:
    """Start ``hub``, print what ``listen`` returns, and close the hub at the first signal.

    :param on_hangup: called for each SIGHUP; without it SIGHUP ends the process.
    :param drain: seconds in which SIGTERM sends the clients elsewhere, before the hub closes.
    """
    # Show warnings and errors in the terminal, unless the program has set up logging itself.
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Python runs a signal handler at the next instruction of the main thread.  A main thread
    # that is about to wait for a lock would never run it.  So each signal also writes its
    # number to a pipe, and the main thread waits for the pipe.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def stop(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, _exit_now)

    def ended(reason: str) -> None:
        with contextlib.suppress(ValueError):  # the pipe is closed: the command has ended
            tell.write(b"\0")

    with open(reading, "rb", buffering=0) as told, open(writing, "wb", buffering=0) as tell:
        for each in SIGNALS:
            signal.signal(each, stop)
        if on_hangup is not None and hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda number, frame: None)
        # faulthandler works even if Python code hangs.  A handler of the program is kept.
        if _free("SIGUSR1") and hasattr(faulthandler, "register"):
            faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        hub.context.add_callback(ended)  # the hub may close by itself
        try:
            if hub.statistics().state == "new":
                hub.start()
            print(listen(), flush=True)
            # Signals that the program handles write their numbers too.
            while (number := told.read(1)[0]) not in (0, *SIGNALS):
                if on_hangup is not None and number == getattr(signal, "SIGHUP", None):
                    on_hangup()
            clients = hub.clients_num()
            if drain is not None and number == signal.SIGTERM and clients:
                print(f"hubthread drains {clients} clients (a second signal ends)", flush=True)
                hub._lifecycle.let_go(drain)
        finally:
            hub.close()
            signal.set_wakeup_fd(-1)
    hub.join()


def _free(name: str) -> bool:
    """Return True if this system has the signal ``name`` and nothing handles it."""
    number = getattr(signal, name, None)
    return number is not None and signal.getsignal(number) is signal.SIG_DFL


def _exit_now(number: int, frame: FrameType | None) -> NoReturn:
    """Exit at once: the second signal."""
    os._exit(128 + number)


# The place to listen.


def _places(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the arguments of ``hub.serve`` for each server: one, or one for each socket.

    :raises BadArgument: for arguments that exclude each other.
    """
    given = [name for name in ("host", "port") if getattr(chosen, name) is not None]
    if chosen.unix is not None:
        if given:
            raise BadArgument(f"argument --unix: not together with --{given[0]}")
        return [{"unix_path": chosen.unix, "unix_mode": chosen.unix_mode}]
    if chosen.unix_mode is not None:
        raise BadArgument("argument --unix-mode: needs --unix too")
    socks = systemd_sockets()
    if socks and given:
        raise BadArgument(f"argument --{given[0]}: systemd has passed sockets to listen on")
    return [{"sock": sock} for sock in socks] or [_host_and_port(chosen)]


def _host_and_port(chosen: argparse.Namespace) -> dict[str, Any]:
    return {
        "host": _HOST if chosen.host is None else chosen.host,
        "port": _PORT if chosen.port is None else chosen.port,
    }


# Arguments.


def _failed(prog: str, error: object, status: int) -> int:
    print(f"{prog}: {error}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="hubthread", description="A real-time hub for synchronous Python.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="serve your hub",
        description="Serve your hub until Ctrl-C or SIGTERM.",
        allow_abbrev=False,
    )
    serve.add_argument(
        "hub",
        metavar="MODULE:HUB",
        help="app:hub is the attribute hub of the module app (app.py): a Hub, or a function "
        "without arguments that returns one",
    )
    chat = commands.add_parser(
        "demo",
        help="serve a chat and a game to try",
        description="Serve a chat and a game until Ctrl-C or SIGTERM.  Open the printed "
        "address in two tabs.",
        allow_abbrev=False,
    )
    for command, run in ((serve, _serve), (chat, _demo)):
        command.set_defaults(command=run, prog=command.prog)
        command.add_argument(
            "--host",
            type=_host,
            help="address or name of this machine to listen on; 0.0.0.0 is all of IPv4, :: is all "
            f"of IPv6 and IPv4 (default: {_HOST}, reachable from this machine only)",
        )
        command.add_argument("--port", type=_port, help=f"0 takes a free port (default: {_PORT})")
    serve.add_argument(
        "--unix", metavar="PATH", help="listen on a Unix socket at PATH instead of a port"
    )
    serve.add_argument(
        "--unix-mode", metavar="MODE", type=_mode, help="its permissions, in octal, such as 660"
    )
    serve.add_argument(
        "--health",
        action="store_true",
        help="answer GET /health with the hub's statistics; 503 if it is stuck or closing",
    )
    serve.add_argument(
        "--metrics",
        action="store_true",
        help="answer GET /metrics with the hub's figures, for Prometheus",
    )
    serve.add_argument(
        "--drain",
        metavar="SECONDS",
        type=_seconds,
        help="let SIGTERM send the clients elsewhere in so many seconds, a few at a time, before "
        "the hub closes; 0 closes at once (default: as the hub's setting)",
    )
    serve.add_argument(
        "--monitor",
        metavar="PORT",
        type=_port,
        nargs="?",
        const=0,
        help="show the hub on a page for this machine; the address with its token is printed "
        "(default: a free port)",
    )
    serve.add_argument(
        "--monitor-actions",
        action="store_true",
        help="let the page close clients and rooms, and stop the clocks of rooms",
    )
    serve.add_argument(
        "--readers",
        choices=[readers.value for readers in Readers],
        help="a thread for each connection, or a few for all (default: as the hub's setting)",
    )
    serve.add_argument(
        "--certfile",
        metavar="FILE",
        help="serve TLS with this certificate chain (PEM); SIGHUP reads it again",
    )
    serve.add_argument(
        "--keyfile", metavar="FILE", help="the private key (default: in the CERTFILE)"
    )
    script = commands.add_parser(
        "client-js",
        help="copy the browser's client to a folder",
        description=f"Copy the browser's client to a folder: {' and '.join(FILES)}.",
        allow_abbrev=False,
    )
    script.set_defaults(command=_client_js, prog=script.prog)
    script.add_argument("folder", metavar="DIR", help="made if it is missing")
    _add_connect(commands)
    _add_bots(commands)
    top.add_command(commands)
    types = commands.add_parser(
        "types",
        help="print TypeScript types of the messages",
        description="Print the TypeScript types of the messages: those that a matcher takes and "
        "answers, and those that the server pushes.",
        allow_abbrev=False,
    )
    types.set_defaults(command=_types, prog=types.prog)
    types.add_argument(
        "matcher",
        metavar="MODULE:MATCHER",
        help="app:matcher is the attribute matcher of the module app: a MatcherMap",
    )
    types.add_argument(
        "pushes",
        metavar="MODULE:TYPE",
        nargs="*",
        help="a type of what the server pushes, or a union of such types; each has a field such "
        'as type: Literal["said"]',
    )
    return parser


def _add_connect(commands: Any) -> None:
    connect = commands.add_parser(
        "connect",
        help="talk to a hub from the terminal",
        description="Connect to a hub, print what comes, and send what is typed.  /help explains "
        "the lines.  Ctrl-D or Ctrl-C ends.",
        allow_abbrev=False,
    )
    connect.set_defaults(command=_connect, prog=connect.prog)
    connect.add_argument("url", metavar="URL", help="such as ws://localhost:8000/ws")
    connect.add_argument(
        "--room",
        metavar="NAME",
        action="append",
        default=[],
        help=f"join this room, and print its last {terminal.REPLAY} messages; may be repeated",
    )
    _add_login(connect)
    connect.add_argument(
        "--proxy", metavar="URL", help="an HTTP proxy: http://user:password@host:port"
    )
    connect.add_argument(
        "--plain", action="store_true", help="send and print text, to a server of another kind"
    )


def _add_login(command: argparse.ArgumentParser) -> None:
    command.add_argument("--token", help="the token for the server")
    command.add_argument(
        "--header",
        metavar="NAME: VALUE",
        action="append",
        default=[],
        help="a header field of the handshake, such as 'Cookie: session=…'; may be repeated",
    )


def _add_bots(commands: Any) -> None:
    players = commands.add_parser(
        "bots",
        help="drive a server with programs as players",
        description="Drive a server with many programs as players, and print what they saw: "
        "lateness, gaps, bytes, and the codes of closes.  Ctrl-C ends.",
        allow_abbrev=False,
    )
    players.set_defaults(command=_bots, prog=players.prog)
    players.add_argument(
        "bot",
        metavar="MODULE:BOT",
        help="app:bot is the function bot of the module app: bot(link), which may yield the "
        "seconds that it waits",
    )
    bots.add_arguments(players)
    _add_login(players)
    players.add_argument(
        "--plain", action="store_true", help="for a server of another kind: use link.raw"
    )


def _port(text: str) -> int:
    if not _DIGITS.fullmatch(text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 65535, got {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_DRAIN:
        raise argparse.ArgumentTypeError(
            f"expected seconds from 0 to {_LONGEST_DRAIN}, got {text!r}"
        )
    return seconds


def _host(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError(
            f"expected an address or name of this machine, such as 127.0.0.1, got {text!r}"
        )
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        host = found["address"] or found["name"]
        raise argparse.ArgumentTypeError(
            f"expected an address without a port, got {text!r}: write --host {host} "
            f"--port {found['port']}"
        )
    # An IPv6 address as it stands in a URL.
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _mode(text: str) -> int:
    if not _MODE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected permissions such as 660, got {text!r}")
    return int(text, 8)
