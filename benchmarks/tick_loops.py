"""The measured process of ``ticks``: ``python -m benchmarks.tick_loops CASE PEER ROOMS SECONDS``.

It prints one JSON object with figures and faults, which are counts that must be zero.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from io import BufferedReader
from typing import Any

from hubthread import FrameControl, HotlineFrameOption, Hub, HubSetting, IOContext, Server

__all__ = ["LOOPS", "OWN"]

OWN = "own-threads"
"""The peer whose rooms have a thread each."""

_STALL_S = 0.3
_WORK_S = 0.0005
_Record = list[tuple[int, float]]
"""The number and the lateness of each tick, in seconds."""
_Frame = FrameControl[_Record]


# The loops beside hubthread.  ``tick`` gets the number and the deadline of the tick; False ends
# the loop.

_Tick = Callable[[int, float], bool]


def _absolute(period: float, tick: _Tick) -> None:
    start = time.monotonic()
    number = 0
    due = start
    while tick(number, due):
        number += 1
        due = start + number * period
        time.sleep(max(0.0, due - time.monotonic()))


def _sleep_period(period: float, tick: _Tick) -> None:
    start = time.monotonic()
    number = 0
    while tick(number, start + number * period):
        number += 1
        time.sleep(period)


def _sleep_rest(period: float, tick: _Tick) -> None:
    start = began = time.monotonic()
    number = 0
    while tick(number, start + number * period):
        number += 1
        time.sleep(max(0.0, began + period - time.monotonic()))
        began = time.monotonic()


def _timers(period: float, tick: _Tick) -> None:
    start = time.monotonic()
    over = threading.Event()

    def fire(number: int) -> None:
        following = threading.Timer(period, fire, (number + 1,))
        following.start()
        if not tick(number, start + number * period):
            following.cancel()
            over.set()

    fire(0)
    over.wait()


LOOPS = {
    "bare": "a thread that sleeps until an absolute deadline",
    "sleep-period": "a thread that sleeps a whole period after its work",
    "sleep-rest": "a thread that sleeps the rest of the period after its work",
    "timers": "a new threading.Timer for each tick",
}
_LOOPS = dict(zip(LOOPS, (_absolute, _sleep_period, _sleep_rest, _timers), strict=True))


# Work.


def _spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def _compute(turns: int) -> int:
    total = 0
    for number in range(turns):
        total += number
    return total


def _turns(seconds: float) -> int:
    """Return the number of loops that take so long here."""
    some = 10_000
    best = min(_time(partial(_compute, some)) for _ in range(50))
    return max(1, int(some * seconds / best))


def _time(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# Rates and lateness, for one room or many.


def _rooms(peer: str, hz: float, rooms: int, seconds: float, work: Callable[[], object]) -> None:
    records: list[_Record] = [[] for _ in range(rooms)]
    if peer in ("hubthread", OWN):
        made, cpu, ticks = _run_rooms(peer, hz, records, seconds, work)
    else:
        made, cpu, ticks = _run_loops(_LOOPS[peer], 1 / hz, records, seconds, work)
    ticking = [record for record in ticks if len(record) > 1]
    _say(
        {"made_s": made, "cpu": cpu, **_rate(ticking[0], hz), **_lateness(ticking)},
        {"rooms without ticks": rooms - len(ticking)},
    )


def _let_tick(records: list[_Record], seconds: float) -> tuple[float, list[_Record]]:
    """Let rooms tick for ``seconds``; return the share of a core that it took, and their ticks."""
    for record in records:
        record.clear()  # those of the time while others were made
    used, began = time.process_time(), time.monotonic()
    time.sleep(seconds)
    cpu = (time.process_time() - used) / (time.monotonic() - began)
    return cpu, [list(record) for record in records]


def _run_loops(
    loop: Callable[[float, _Tick], None],
    period: float,
    records: list[_Record],
    seconds: float,
    work: Callable[[], object],
) -> tuple[float, float, list[_Record]]:
    over = threading.Event()

    def tick(record: _Record, number: int, due: float) -> bool:
        record.append((number, time.monotonic() - due))
        work()
        return not over.is_set()

    threads = [
        threading.Thread(target=loop, args=(period, partial(tick, record))) for record in records
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    made = time.monotonic() - began
    cpu, ticks = _let_tick(records, seconds)
    over.set()
    for thread in threads:
        thread.join()
    return made, cpu, ticks


def _run_rooms(
    peer: str, hz: float, records: list[_Record], seconds: float, work: Callable[[], object]
) -> tuple[float, float, list[_Record]]:
    with _hub() as hub:
        began = time.monotonic()
        _make_rooms(hub, peer, hz, records, work)
        made = time.monotonic() - began
        return made, *_let_tick(records, seconds)


def _make_rooms(
    hub: Hub[Any, str], peer: str, hz: float, records: list[_Record], work: Callable[[], object]
) -> None:
    def logic(frame: _Frame, record: _Record) -> None:
        tick = frame.tick
        record.append((tick.index, tick.late))
        work()

    left = iter(records)
    option = HotlineFrameOption(
        new_obj=lambda: next(left), logic=logic, hz=hz, own_thread=peer == OWN
    )
    for _ in records:
        option.run(hub.hotline())


def _beside(peer: str, rooms: int, seconds: float) -> None:
    quiet: list[_Record] = [[] for _ in range(rooms)]
    busy: list[_Record] = [[]]
    with _hub() as hub:
        _make_rooms(hub, peer, 20, quiet, lambda: None)
        _make_rooms(hub, peer, 60, busy, lambda: _spin(0.004))
        cpu, (*beside, ticks) = _let_tick([*quiet, *busy], seconds)
    quiet_p99 = _lateness(beside)["late_p99_ms"]
    _say({"quiet_p99_ms": quiet_p99, "cpu": cpu, **_rate(ticks, 60), **_lateness([ticks])}, {})


def _rate(ticks: _Record, hz: float) -> dict[str, float]:
    """Return the ticks of one room a second, from its first to its last."""
    first, last = ticks[0], ticks[-1]
    return {"rate": (len(ticks) - 1) / ((last[0] - first[0]) / hz + last[1] - first[1])}


def _lateness(records: list[_Record]) -> dict[str, float]:
    """Return how late the ticks of these rooms were, and how many were skipped."""
    late = sorted(late for record in records for _, late in record)
    return {
        "late_p50_ms": 1000 * late[len(late) // 2],
        "late_p99_ms": 1000 * late[len(late) * 99 // 100],
        "late_max_ms": 1000 * late[-1],
        "skipped": sum(record[-1][0] - record[0][0] + 1 - len(record) for record in records),
    }


# A stall, once a second.


def _stall(peer: str, hz: float, seconds: float) -> None:
    stalls: list[tuple[int, float]] = []  # index, seconds from its deadline to its end
    seen: list[tuple[int, int, float]] = []  # index, skipped, deadline on the first tick's grid

    def logic(frame: _Frame, _: _Record) -> None:
        now, tick = time.monotonic(), frame.tick
        seen.append((tick.index, tick.skipped, now - tick.late - tick.index * tick.dt))
        if tick.index // hz > len(stalls):
            _spin(_STALL_S)
            stalls.append((tick.index, tick.late + time.monotonic() - now))

    used, began = time.process_time(), time.monotonic()
    with _hub() as hub:
        HotlineFrameOption(list, logic, hz, own_thread=peer == OWN).run(hub.hotline())
        time.sleep(seconds + 1)
    used, took = time.process_time() - used, time.monotonic() - began
    after = {index - skipped - 1: skipped for index, skipped, _ in seen}
    # Of the ticks that were due during a stall only the last is run.
    wrong = [
        at
        for at, lasted in stalls
        if at < seen[-1][0] and after.get(at, 0) != int(lasted * hz) - 1
    ]
    starts = sorted(start for _, _, start in seen)
    _say(
        {
            "skipped": sum(after.values()),
            # A tick may read the clock late, but never early.
            "off_grid_ms": 1000 * (starts[len(starts) // 2] - starts[0]),
            "cpu": used / took,
        },
        {"stalls miscounted": len(wrong)},
    )


# The hub thread at work, while a room pushes to a client.

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_PUSH = b"%08d%024d"


def _busy_hub(peer: str, hz: float, seconds: float) -> None:
    ticks: _Record = []
    arrived: list[tuple[int, float]] = []  # index, seconds under way

    def logic(frame: _Frame, record: _Record) -> None:
        tick = frame.tick
        record.append((tick.index, tick.late))
        frame.push(_PUSH % (tick.index, time.monotonic_ns()))

    with _hub(lambda ctx, _: room.answer(ctx)) as hub:
        room = hub.hotline()
        with hub.serve() as server, _connect(server) as member:
            member.sendall(_REQUEST)
            stream: BufferedReader = member.makefile("rb")
            while stream.readline().strip():
                pass
            reader = threading.Thread(target=_read, args=(stream, arrived))
            reader.start()
            clock = HotlineFrameOption(lambda: ticks, logic, hz, own_thread=peer == OWN).run(room)
            used, began = time.process_time(), time.monotonic()
            while time.monotonic() < began + seconds:
                hub.exec_sync(lambda _: _spin(1.0))
            used, took = time.process_time() - used, time.monotonic() - began
            clients = hub.clients()
            clock.close()
            clock.join()
            for client in clients:
                client.close()  # after the last push
            reader.join()
    numbers = [index for index, _ in ticks]
    under_way = sorted(delay for _, delay in arrived)
    _say(
        {
            "cpu": used / took,
            "push_p99_ms": 1000 * under_way[len(under_way) * 99 // 100],
            **_lateness([ticks]),
        },
        {
            "ticks missed": numbers[-1] - len(numbers),
            "pushes missed": len(set(numbers) - {index for index, _ in arrived}),
        },
    )


def _hub(on_start: Callable[[IOContext, Any], object] | None = None) -> Hub[Any, str]:
    setting: HubSetting[Any, str] = HubSetting(dict, on_connection_start=on_start)
    return Hub(setting)


def _connect(server: Server) -> socket.socket:
    return socket.create_connection((str(server.address[0]), int(server.address[1])))


def _read(stream: BufferedReader, arrived: list[tuple[int, float]]) -> None:
    read = stream.read
    while (header := read(2)) and header[0] == 0x82:
        message = read(header[1])
        delay = (time.monotonic_ns() - int(message[8:])) / 1e9
        arrived.append((int(message[:8]), delay))


def _say(figures: dict[str, float], faults: dict[str, int]) -> None:
    found = {name: count for name, count in faults.items() if count}
    print(json.dumps({"figures": figures, "faults": found}))


def _main(case: str, peer: str, rooms: str, seconds: str) -> None:
    count, lasting = int(rooms), float(seconds)
    if case == "60 Hz":
        _rooms(peer, 60, count, lasting, lambda: _spin(0.004))
    elif case == "beside":
        _beside(peer, count, lasting)
    elif case == "stall":
        _stall(peer, 60, lasting)
    elif case in ("rooms", "3,000 rooms"):
        _rooms(peer, 20, count, lasting, lambda: None)
    elif case == "work":
        _rooms(peer, 20, count, lasting, partial(_compute, _turns(_WORK_S)))
    else:
        _busy_hub(peer, 20, lasting)


if __name__ == "__main__":
    _main(*sys.argv[1:])
