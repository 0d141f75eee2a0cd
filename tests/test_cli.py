"""The command line, in processes of its own: output, signals, wrong arguments."""

from __future__ import annotations

import contextlib
import faulthandler
import http.client
import json
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import hubthread
from hubthread import cli
from hubthread.loading import BadArgument, load_hub
from hubthread.net.bind import Bound

DATA = Path(__file__).parent / "data"
CERTIFICATE = DATA / "localhost.pem"
KEY = DATA / "localhost.key"

APP = """
import threading
from hubthread import Hub, HubSetting

def make():
    return Hub(HubSetting(meta_gen=dict))

hub = make()
started = make()
started.start()
ended = make()
ended.close()
number = 3

class place:
    hub = make()

def needs(argument):
    return make()

def fails():
    raise RuntimeError("no database")

def on_message(ctx, meta):
    if ctx.payload == "thread?":
        ctx.write(threading.current_thread().name)
    elif ctx.payload == "close":
        ctx.hub.close()
    elif ctx.payload == "block":
        ctx.write("blocked")
        threading.Event().wait()
    else:
        ctx.write(ctx.payload)

echo = Hub(HubSetting(meta_gen=dict, on_receive_message=on_message))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@contextlib.contextmanager
def started(*arguments: str, cwd: Path, options: tuple[str, ...] = ()) -> Iterator[Command]:
    """Run ``hubthread`` with ``arguments``; enter the block when it has printed its addresses."""
    with subprocess.Popen(
        [sys.executable, *options, "-m", "hubthread", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate()
            monitors = arguments[0] == "demo" or "--monitor" in arguments
            yield Command(process, line, process.stdout.readline() if monitors else "")
        finally:
            process.kill()


class Command:
    """A command that serves."""

    def __init__(self, process: subprocess.Popen[str], line: str, monitor: str) -> None:
        self.process = process
        self.monitor = monitor.removeprefix("monitor: ").rstrip()
        self.line = line
        self.url = next(word for word in line.split() if "://" in word)

    def tell(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Return the status and the rest of the output, when the command has ended."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


# Serving.


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A command without options."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "app.py").write_text(APP)
    with started("serve", "app:echo", "--port", "0", cwd=folder) as command:
        yield command


def test_serve_prints_its_address(plain: Command) -> None:
    assert plain.line == f"hubthread listens on {plain.url} (Ctrl-C stops)\n"
    assert plain.url.startswith("ws://127.0.0.1:")
    with connect(plain.url) as client:
        client.send("hello")
        assert client.recv() == "hello"


def test_serve_hub_that_runs_is_served(folder: Path) -> None:
    # -I: the current folder is not on the path, as for the console script.
    with started("serve", "app:started", "--port", "0", cwd=folder, options=("-I",)) as command:
        with connect(command.url):
            pass
        command.tell(signal.SIGINT)
        assert command.end() == (0, "", "")


def test_hub_is_found_by_attribute_function_and_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(folder)
    (folder / "places.py").write_text(
        "from hubthread import Hub, HubSetting\n"
        "hub = Hub(HubSetting(dict))\n"
        "def make():\n    return hub\n"
        "class place:\n    inner = hub\n"
    )
    try:
        found = [load_hub(f"places:{path}") for path in ("hub", "make", "place.inner")]
        assert found == [sys.modules["places"].hub] * 3
    finally:
        sys.modules.pop("places", None)


@pytest.mark.parametrize(
    ("arguments", "number", "reader"),
    [
        (("serve", "app:echo"), signal.SIGINT, "reader"),
        (("serve", "app:echo", "--readers", "own"), signal.SIGTERM, "reader"),
        (("serve", "app:echo", "--readers", "shared"), signal.SIGTERM, "readers"),
        (("demo",), signal.SIGINT, ""),
        (("demo", "--host", "0.0.0.0"), signal.SIGTERM, ""),
    ],
)
def test_command_signal_closes_hub_with_1001(
    folder: Path, arguments: tuple[str, ...], number: signal.Signals, reader: str
) -> None:
    """The demo prints an address of this machine; --readers replaces those of the setting."""
    with started(*arguments, "--port", "0", cwd=folder) as command:
        url = command.url.replace("http://", "ws://")
        with connect(url if reader else url + "ws") as client:
            # The reply shows that the handshake is over.
            client.send("thread?")
            reply = str(client.recv())
            command.tell(number)
            for _ in client:
                pass
        assert client.close_code == 1001
        assert command.end() == (0, "", "")
    if reader:
        assert reply.split("-")[2] == reader
    else:
        assert re.fullmatch(r"http://127\.0\.0\.1:[1-9]\d*/\n", command.line)


def test_serve_drain_lets_sigterm_send_clients_elsewhere(folder: Path) -> None:
    with started("serve", "app:echo", "--port", "0", "--drain", "10", cwd=folder) as command:
        with connect(command.url) as client:
            client.send("hello")
            assert client.recv()
            command.tell(signal.SIGTERM)
            with pytest.raises(ConnectionClosed):
                client.recv()
        assert (client.close_code, client.close_reason) == (1012, "the server restarts retry=2")
        told = "hubthread drains 1 clients (a second signal ends)\n"
        assert command.end() == (0, told, "")


@pytest.mark.parametrize(
    ("number", "readers"), [(signal.SIGINT, "own"), (signal.SIGTERM, "shared")]
)
def test_command_second_signal_exits_at_once(
    folder: Path, number: signal.Signals, readers: str
) -> None:
    arguments = ("serve", "app:echo", "--port", "0", "--readers", readers)
    with started(*arguments, cwd=folder) as command:
        client = websocket.create_connection(command.url, timeout=60)
        try:
            client.send("block")
            assert client.recv() == "blocked"
            command.tell(number)
            # The close frame shows that the first signal has arrived.
            opcode, _ = client.recv_data()
            assert opcode == websocket.ABNF.OPCODE_CLOSE
            command.tell(number)
            assert command.end() == (128 + number, "", "")
        finally:
            client.shutdown()  # type: ignore[no-untyped-call]


def test_serve_signal_of_program_does_not_end_it(folder: Path) -> None:
    (folder / "own.py").write_text(
        "import signal\nfrom app import echo\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('mine', flush=True))\n"
    )
    with started("serve", "own:echo", "--port", "0", cwd=folder) as command:
        with connect(command.url) as client:
            command.tell(signal.SIGUSR1)
            assert command.process.stdout is not None
            assert command.process.stdout.readline() == "mine\n"
            client.send("hello")
            assert client.recv() == "hello"
        command.tell(signal.SIGTERM)
        assert command.end() == (0, "", "")


@pytest.mark.skipif(not hasattr(faulthandler, "register"), reason="not on this system")
def test_serve_sigusr1_prints_stack_of_blocked_callback(folder: Path) -> None:
    with (
        started("serve", "app:echo", "--port", "0", cwd=folder) as command,
        connect(command.url) as client,
    ):
        client.send("block")
        assert client.recv() == "blocked"
        command.tell(signal.SIGUSR1)
        assert command.process.stderr is not None
        while "in on_message" not in (line := command.process.stderr.readline()):
            assert line, "it has ended"
        command.process.kill()


def page_of(command: Command, path: str) -> tuple[int, bytes]:
    """Return the status and the body of a page."""
    place = command.url.removeprefix("ws://").rstrip("/")
    with contextlib.closing(http.client.HTTPConnection(place, timeout=60)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_serve_options_add_pages(folder: Path, plain: Command) -> None:
    texts = {"/health": b'"state": "running"', "/metrics": b"hubthread_up 1"}
    options = ("--port", "0", "--health", "--metrics")
    with started("serve", "app:echo", *options, cwd=folder) as command:
        for path, text in texts.items():
            status, body = page_of(command, path)
            assert status == 200
            assert text in body
            status, body = page_of(plain, path)
            assert status == 426
            assert text not in body


def test_serve_monitor_shows_the_hub_in_a_browser_and_in_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--monitor", "0", "--monitor-actions"
    with started("serve", "app:echo", "--port", "0", *options, cwd=folder) as command:
        place, _, token = command.monitor.partition("#token=")
        assert place.startswith("http://127.0.0.1:")
        assert len(token) >= 32
        with connect(command.url) as client:
            client.send("hello")
            assert client.recv() == "hello"  # the hub has counted it
            assert cli.main(["top", "--once", command.monitor]) == 0
        shown, _ = capsys.readouterr()
        assert "hubthread " in shown
        assert "1 of 1 clients, by lag" in shown
        assert cli.main(["top", "--once", place]) == 1
        assert "401: The monitor needs its token." in capsys.readouterr()[1]
        command.tell(signal.SIGINT)
        assert command.end() == (0, "", "")


def test_serve_hub_closed_by_program_ends_command(folder: Path) -> None:
    with started("serve", "app:echo", "--port", "0", cwd=folder) as command:
        with connect(command.url) as client:
            client.send("close")
            with pytest.raises(ConnectionClosed):
                client.recv()
        assert command.end() == (0, "", "")


def test_serve_interrupt_while_importing_prints_no_traceback(folder: Path) -> None:
    # It wakes again and again: CPython loses a signal that arrives just before a wait.
    (folder / "slow.py").write_text(
        "import threading\nprint('importing ://', flush=True)\n"
        "while not threading.Event().wait(0.05):\n    pass\n"
    )
    with started("serve", "slow:hub", cwd=folder) as command:
        command.tell(signal.SIGINT)
        assert command.end() == (130, "", "")


def test_serve_certfile_with_key_serves_tls(folder: Path) -> None:
    """With files of their own: ``test_sighup_reads_the_certificate_again``."""
    both = folder / "both.pem"
    both.write_text(KEY.read_text() + CERTIFICATE.read_text())
    with started(
        "serve", "app:echo", "--port", "0", "--certfile", str(both), cwd=folder
    ) as command:
        assert command.url.startswith("wss://127.0.0.1:")
        # websocket-client uses one thread: with two, OpenSSL may let the writer wait for the
        # reader.
        trust = {"ca_certs": str(CERTIFICATE)}
        client = websocket.create_connection(command.url, timeout=60, sslopt=trust)
        client.send("hello")
        assert client.recv() == "hello"
        client.close()
        command.tell(signal.SIGTERM)
        assert command.end() == (0, "", "")


def test_version_prints_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"hubthread {hubthread.__version__}\n"


# Bad input.


WRONG = [
    ("", "COMMAND"),
    ("bogus", "COMMAND: invalid choice: 'bogus'"),
    ("serve", "MODULE:HUB"),
    ("serve app:hub --nonsense", "--nonsense"),
    ("serve app:hub --port", "--port: expected one argument"),
    ("serve app:hub --port abc", "--port: expected an integer from 0 to 65535, got 'abc'"),
    ("serve app:hub --port 8_0", "--port: expected an integer from 0 to 65535, got '8_0'"),
    ("serve app:hub --port 65536", "--port: expected an integer from 0 to 65535, got '65536'"),
    ("serve app:hub --port=-1", "--port: expected an integer from 0 to 65535, got '-1'"),
    ("serve app:hub --port ٣", "--port: expected an integer from 0 to 65535, got '٣'"),
    ("demo --port 1e3", "--port: expected an integer from 0 to 65535, got '1e3'"),
    ("serve app:hub --unix a --port 1", "argument --unix: not together with --port"),
    ("serve app:hub --unix-mode 600", "argument --unix-mode: needs --unix too"),
    ("serve app:hub --unix a --unix-mode 9", "--unix-mode: expected permissions such as"),
    ("demo --host=", "--host: expected an address or name of this machine"),
    ("serve app", "MODULE:HUB: expected a module, a colon and an attribute"),
    (
        "demo --host 0.0.0.0:8000",
        "without a port, got '0.0.0.0:8000': write --host 0.0.0.0 --",
    ),
    ("demo --host [::1]:8000", "got '[::1]:8000': write --host ::1 --port 8000"),
    ("demo --host http://localhost:80/", "write --host localhost --port 80"),
    ("serve app:", "MODULE:HUB: expected a module, a colon and an attribute"),
    ("serve :hub", "MODULE:HUB: expected a module, a colon and an attribute"),
    ("serve ./app:hub", "such as app:hub, got './app:hub'; write app:hub"),
    ("serve sub/app.py:", "got 'sub/app.py:'; write sub.app:hub"),
    (
        "serve app.py:hub",
        "MODULE:HUB: no module named 'app.py' in this folder or installed; wr",
    ),
    ("serve app.py", "got 'app.py'; write app:hub"),
    ("serve app:hub()", "MODULE:HUB: expected a module, a colon and an attribute"),
    ("serve nowhere:hub", "MODULE:HUB: no module named 'nowhere'"),
    ("serve nowhere.app:hub", "MODULE:HUB: no module named 'nowhere'"),
    ("serve app.inner:hub", "MODULE:HUB: no module named 'app.inner'"),
    ("serve app:nothing", "app has no attribute 'nothing'; it has the hub hub, started"),
    ("serve app:number.hub", "MODULE:HUB: app.number has no attribute 'hub'"),
    ("serve app:number", "MODULE:HUB: expected a Hub, or a function"),
    ("serve app:needs", "MODULE:HUB: app:needs is not a Hub and cannot be called without"),
    ("serve app:ended", "MODULE:HUB: the hub app:ended is already closed"),
    (
        "serve app:started --readers shared",
        "argument --readers: the hub app:started runs already",
    ),
    ("serve app:hub --keyfile some.key", "--keyfile: needs --certfile too"),
    ("serve app:hub --drain soon", "--drain: expected seconds from 0 to 3600, got 'soon'"),
    ("serve app:hub --drain nan", "--drain: expected seconds from 0 to 3600, got 'nan'"),
]

# Tries all command lines in one process: each alone would start an interpreter.
TRY_ALL = """
import contextlib, io, json, sys
from hubthread import cli

told = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main(line.split())
        except SystemExit as ended:
            status = ended.code
    told.append((line, (status, out.getvalue(), err.getvalue())))
print(json.dumps(dict(told)))
"""


RAISING = [
    ("raises:hub", 'raises.py", line 2, in f', "ZeroDivisionError: division by zero"),
    ("wrong:hub", 'wrong.py", line 1', "SyntaxError: "),
    ("needs_more:hub", 'needs_more.py", line 1', "No module named 'no_such_dependency'"),
    ("quits:hub", 'quits.py", line 1', "SystemExit: 3"),
    ("app:fails", "in fails", "RuntimeError: no database"),
]

UNUSABLE = [
    (f"missing.pem --keyfile {KEY}", "cannot read the certificate missing.pem: No such file"),
    (f"{CERTIFICATE} --keyfile no.key", "cannot read the private key no.key: No such file"),
    (f". --keyfile {KEY}", "cannot read the certificate .: Is a directory"),
    (f"app.py --keyfile {KEY}", "no certificate in app.py"),
    (f"{CERTIFICATE} --keyfile app.py", "no private key in app.py"),
    (f"{CERTIFICATE}", "no private key in "),
    (f"{CERTIFICATE} --keyfile other.key", "the private key in other.key does not belong to "),
    (f"{CERTIFICATE} --keyfile locked.key", "the private key is encrypted"),
]


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.fixture(scope="module")
def refusals(
    tmp_path_factory: pytest.TempPathFactory, taken: int
) -> dict[str, tuple[int, str, str]]:
    """Status, stdout and stderr of each command line that does not serve."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "app.py").write_text(APP)
    (folder / "raises.py").write_text("def f():\n    return 1 / 0\n\n\nf()\n")
    (folder / "wrong.py").write_text("def (:\n")
    (folder / "needs_more.py").write_text("import no_such_dependency\n")
    (folder / "quits.py").write_text("raise SystemExit(3)\n")
    for name in ("other.key", "locked.key"):
        (folder / name).write_bytes((DATA / name).read_bytes())
    lines = [line for line, _ in WRONG] + [f"serve {target}" for target, _, _ in RAISING]
    lines += [f"serve app:hub --certfile {files}" for files, _ in UNUSABLE]
    lines.append("demo --host .")
    lines += [f"{command} --port {taken}" for command in ("serve app:hub", "demo")]
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL],
        cwd=folder,
        input=json.dumps(lines),
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, tuple[int, str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("line", "told"), WRONG)
def test_command_wrong_arguments_print_one_line(
    refusals: dict[str, tuple[int, str, str]], line: str, told: str
) -> None:
    status, out, said = refusals[line]
    assert (status, out) == (2, "")
    assert told in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("target", "place", "error"), RAISING)
def test_serve_module_that_raises_shows_its_own_lines(
    refusals: dict[str, tuple[int, str, str]], target: str, place: str, error: str
) -> None:
    status, out, said = refusals[f"serve {target}"]
    assert (status, out) == (2, "")
    assert said.startswith("hubthread serve: argument MODULE:HUB: ")
    assert place in said
    assert error in said.splitlines()[-1]
    assert "Traceback" not in said
    assert "importlib" not in said
    assert "cli.py" not in said


@pytest.mark.parametrize(("files", "told"), UNUSABLE)
def test_serve_unusable_certificate_prints_one_line(
    refusals: dict[str, tuple[int, str, str]], files: str, told: str
) -> None:
    status, out, said = refusals[f"serve app:hub --certfile {files}"]
    assert (status, out) == (1, "")
    assert told in said
    assert said.count("\n") == 1


def test_command_invalid_host_prints_one_line(
    refusals: dict[str, tuple[int, str, str]],
) -> None:
    told = "hubthread demo: cannot listen on .:8000: this is not a valid host name\n"
    status, out, said = refusals["demo --host ."]
    assert (status, out, said) == (1, "", told)


@pytest.mark.parametrize("command", ["serve app:hub", "demo"])
def test_command_port_in_use_prints_one_line(
    refusals: dict[str, tuple[int, str, str]], taken: int, command: str
) -> None:
    place = f"127.0.0.1:{taken}"
    told = f"hubthread {command.split()[0]}: cannot listen on {place}: Address already in use\n"
    status, out, said = refusals[f"{command} --port {taken}"]
    assert (status, out, said) == (1, "", told)


def test_command_host_as_in_a_url_is_an_address() -> None:
    chosen = cli._parser().parse_args(["demo", "--host", "[::1]", "--port", "0"])
    assert chosen.host == "::1"


def test_serve_listens_on_a_unix_socket(folder: Path) -> None:
    with started(
        *("serve", "app:hub", "--unix", "hub.sock", "--unix-mode", "600"), cwd=folder
    ) as command:
        assert command.url == "ws://unix:hub.sock/"
        assert stat.S_IMODE((folder / "hub.sock").stat().st_mode) == 0o600


def test_serve_takes_the_sockets_of_systemd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with socket.create_server(("127.0.0.1", 0)) as one:
        monkeypatch.setattr(cli, "systemd_sockets", lambda: [one])
        chosen = cli._parser().parse_args(["serve", "app:hub"])
        assert cli._places(chosen) == [{"sock": one}]
        chosen = cli._parser().parse_args(["serve", "app:hub", "--port", "1"])
        with pytest.raises(BadArgument, match="--port: systemd has passed sockets"):
            cli._places(chosen)


def test_command_without_permission_prints_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Root may listen on any port, so the refusal is simulated.
    def refuse(host: str, port: int, backlog: int, *, reuse_port: bool) -> Bound:
        raise PermissionError(13, f"cannot listen on {host}:{port}: Permission denied")

    monkeypatch.setattr("hubthread.serving.listening.open_tcp", refuse)
    handlers = [(number, signal.getsignal(number)) for number in cli.SIGNALS]
    try:
        assert cli.main(["demo", "--port", "80"]) == 1
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    said = capsys.readouterr().err
    assert said == "hubthread demo: cannot listen on 127.0.0.1:80: Permission denied\n"


def test_client_js_copies_the_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "static" / "js"
    for _ in range(2):  # a second copy replaces the first
        assert cli.main(["client-js", str(folder)]) == 0
    assert b"export function connect(" in (folder / "hubthread.js").read_bytes()
    assert b"export function connect(" in (folder / "hubthread.d.ts").read_bytes()
    assert capsys.readouterr().out.splitlines()[:2] == [
        str(folder / "hubthread.js"),
        str(folder / "hubthread.d.ts"),
    ]
    (tmp_path / "file").touch()
    assert cli.main(["client-js", str(tmp_path / "file")]) == 1
