"""Places for the processes of a program, and the sockets through which they answer."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubthread.net import worker_sockets
from hubthread.net.worker_sockets import WorkerSocket, ask_workers
from tests.support import TIMEOUT

LONG = TIMEOUT


@contextlib.contextmanager
def running(folder: Path, answer: Callable[[], bytes]) -> Iterator[WorkerSocket]:
    place = WorkerSocket(folder)
    thread = threading.Thread(target=place.run, args=(answer,))
    thread.start()
    try:
        yield place
    finally:
        place.close()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def test_workers_answer_by_their_numbers(tmp_path: Path) -> None:
    with (
        running(tmp_path, lambda: b"zero") as zero,
        running(tmp_path, lambda: b"one"),
        running(tmp_path, lambda: b"2" * 3_000_000),
    ):
        assert ask_workers(tmp_path, None, LONG) == {0: b"zero", 1: b"one", 2: b"2" * 3_000_000}
        assert ask_workers(tmp_path, zero.number, LONG).keys() == {1, 2}


def test_place_of_a_worker_that_has_ended_is_taken_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with running(folder, lambda: b"zero"), running(folder, lambda: b"one"):
        pass
    with running(folder, lambda: b"again") as again:
        assert again.number == 0
        assert ask_workers(folder, None, LONG) == {0: b"again"}
    assert sorted(os.listdir(folder)) == ["0.lock", "1.lock"]


def test_worker_that_was_killed_is_left_out_and_replaced(tmp_path: Path) -> None:
    """The file of its socket stays, and the system has freed its lock."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "0.sock"))
    sock.listen()
    sock.close()
    (tmp_path / "0.lock").touch()
    assert ask_workers(tmp_path, None, LONG) == {}
    with running(tmp_path, lambda: b"new"):
        assert ask_workers(tmp_path, None, LONG) == {0: b"new"}


def test_worker_that_does_not_answer_costs_its_time_once(tmp_path: Path) -> None:
    """One of them waits in its answer, the other has a backlog of connections."""
    with socket.socket(socket.AF_UNIX) as full, contextlib.ExitStack() as stack:
        full.bind(str(tmp_path / "200.sock"))
        full.listen(0)
        waiting: list[socket.socket] = []
        while True:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            if sock.connect_ex(str(tmp_path / "200.sock")):
                break
            waiting.append(sock)
        free = threading.Event()

        def hang() -> bytes:
            free.wait(TIMEOUT)
            return b"late"

        stack.enter_context(running(tmp_path, hang))
        stack.callback(free.set)
        assert ask_workers(tmp_path, None, 0.05) == {0: None, 200: None}


def test_folder_without_a_free_place_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_sockets, "MOST_WORKERS", 1)
    with running(tmp_path, lambda: b""), pytest.raises(OSError, match="1 places are taken"):
        WorkerSocket(tmp_path)


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        WorkerSocket(tmp_path / "file")


def test_missing_folder_has_no_workers(tmp_path: Path) -> None:
    assert ask_workers(tmp_path / "missing", None, LONG) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_keeps_neither_lock_nor_socket(tmp_path: Path) -> None:
    place = WorkerSocket(tmp_path)
    told, tell = os.pipe()
    ready, is_ready = os.pipe()
    child = os.fork()
    if child == 0:  # no test may go on here
        os.write(is_ready, b"x")
        os.read(told, 1)
        os._exit(0)
    os.read(ready, 1)
    place.close()
    place.run(lambda: b"")  # ends at once
    with running(tmp_path, lambda: b"new") as new:
        assert new.number == 0
        assert ask_workers(tmp_path, None, LONG) == {0: b"new"}
    os.write(tell, b"x")
    os.waitpid(child, 0)
    for descriptor in (told, tell, ready, is_ready):
        os.close(descriptor)
