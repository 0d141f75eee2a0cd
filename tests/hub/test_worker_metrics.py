"""The metrics of several processes; here, of several hubs that share a folder."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from hubthread import Hub, HubSetting
from hubthread.hub import worker_metrics
from hubthread.net.worker_sockets import WorkerSocket
from hubthread.testing import VirtualHub
from tests.hub.test_metrics import figures
from tests.support import TIMEOUT, Logs


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the answers of hubs that run, however busy the machine is."""
    monkeypatch.setattr(worker_metrics, "_SECONDS", TIMEOUT)


def a_hub(folder: Path, **fields: Any) -> Hub[Any, Any]:
    return Hub(HubSetting[Any, Any](dict, metrics_dir=folder, **fields))


def up(hub: Hub[Any, Any]) -> dict[str, float]:
    """Return the workers that a hub's page shows, and which of them run."""
    name = "hubthread_up{worker="
    return {
        key.removeprefix(name).rstrip("}"): value
        for key, value in figures(hub).items()
        if key.startswith(name)
    }


def test_each_hub_answers_for_all_that_run(tmp_path: Path) -> None:
    one, two = a_hub(tmp_path), a_hub(tmp_path)
    assert up(one) == {"": 0}
    with one:
        assert up(one) == {"0": 1}
        assert up(two) == {"": 0, "0": 1}
        with two:
            assert up(one) == up(two) == {"0": 1, "1": 1}
            assert figures(one).keys() == figures(two).keys()
        assert up(one) == {"0": 1}


def test_hub_that_does_not_answer_in_time_is_not_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_metrics, "_SECONDS", 0.05)
    with a_hub(tmp_path) as hub:
        hung = WorkerSocket(tmp_path)
        assert up(hub) == {"0": 1, "1": 0}
        hung.close()
        hung.run(bytes)


@pytest.mark.parametrize("text", [b"", b"[[", b"{}", b"[[1]]", b'[["a","gauge","",[[]]]]'])
def test_answer_of_a_hub_that_ends_meanwhile_is_left_out(tmp_path: Path, text: bytes) -> None:
    with a_hub(tmp_path) as hub:
        other = WorkerSocket(tmp_path)
        thread = threading.Thread(target=other.run, args=(lambda: text,))
        thread.start()
        assert up(hub) == {"0": 1}
        other.close()
        thread.join(TIMEOUT)


def test_hub_without_a_place_runs_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    logs = Logs()
    with a_hub(tmp_path / "file", logger=logs) as hub:
        assert up(hub) == {"": 1}
        (line,) = logs.warnings()
    assert "metrics_dir" in line


def test_virtual_hub_takes_no_place(tmp_path: Path) -> None:
    setting = HubSetting[Any, Any](dict, metrics_dir=tmp_path / "none")
    with VirtualHub(setting) as hub:
        assert up(hub) == {"": 1}
    assert not (tmp_path / "none").exists()


def test_place_is_free_after_the_end_of_the_hub(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(a_hub(tmp_path))
        stack.enter_context(a_hub(tmp_path))
        first.close()
        third = stack.enter_context(a_hub(tmp_path))
        assert up(third) == {"0": 1, "1": 1}
