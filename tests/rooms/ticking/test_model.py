"""A whole ticking room, in virtual time, against a model: a list of what is due and when."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hubthread import HotlineClosed, HotlineFrameOption, HubSetting
from hubthread.testing import VirtualHub
from tests.support.examples import examples

MEMBERS = range(3)
QUARTERS = st.integers(1, 12).map(lambda number: number / 4)
WHO = st.sampled_from(MEMBERS)
WHICH = st.integers(0, 20)


class Pending:
    """A countdown of the model that has not ended."""

    def __init__(self, name: str, start: float, timeout: float, interval: float | None) -> None:
        self.name = name
        self.start = start
        self.deadline = start + timeout
        self.interval = interval
        self.waiting: dict[int, None] | None = None  # of a gate
        self.inputs: dict[int, str] = {}
        self.due = 0.0
        self.set_due(start)

    def set_due(self, now: float) -> None:
        self.due = self.deadline
        if self.interval is not None:
            passed = math.floor((now - self.start) / self.interval)
            self.due = min(self.start + (passed + 1) * self.interval, self.deadline)


class Model:
    """The expected behaviour of the room.  Times are of the room's clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.tick = 0
        self.slow = 0.0
        self.paused = False
        self.closed = False
        self.log: list[Any] = []
        self.pending: list[Pending] = []
        self.inside: list[int] = []
        self.inboxes: list[list[str]] = [[] for _ in MEMBERS]

    def push(self, text: str) -> None:
        for who in self.inside:
            self.inboxes[who].append(text)

    def advance(self, seconds: float) -> None:
        if not self.paused and not self.closed:
            self.work(self.now + seconds)
        self.settle()

    def settle(self) -> None:
        """Do everything that is due now, also what becomes due meanwhile."""
        last = -1.0
        while last != self.now:
            last = self.now
            self.work(last)

    def work(self, until: float) -> None:
        while not self.paused and not self.closed:
            due = min([self.tick + 1.0, *(each.due for each in self.pending)])
            if due > until:
                break
            self.now = max(self.now, due)
            self.step()
        if not self.paused and not self.closed:
            self.now = max(self.now, until)

    def step(self) -> None:
        now = self.now
        while due := [each for each in self.pending if each.due <= now]:
            self.fire(min(due, key=lambda each: each.due))
        if now >= self.tick + 1:
            newest = math.floor(now)
            self.log.append(("tick", newest, newest - self.tick - 1, now - newest))
            self.push(f"tick {newest}")
            self.tick = newest
            self.now, self.slow = now + self.slow, 0.0

    def fire(self, each: Pending) -> None:
        if self.now < each.deadline:
            self.log.append((each.name, "tick"))
            each.set_due(self.now)
            return
        self.pending.remove(each)
        if each.waiting is None:
            self.log.append((each.name, "timeout"))
        else:
            self.complete(each)

    def complete(self, gate: Pending) -> None:
        assert gate.waiting is not None
        gate.inputs.update(dict.fromkeys(gate.waiting, "defaulted"))
        self.log.append((gate.name, gate.inputs))

    def answer(self, gate: Pending, who: int, state: str) -> bool:
        if gate not in self.pending or gate.waiting is None or who not in gate.waiting:
            return False
        del gate.waiting[who]
        gate.inputs[who] = state
        if not gate.waiting:
            self.pending.remove(gate)
            self.complete(gate)
        return True

    def leave(self, who: int) -> None:
        if who in self.inside:
            self.inside.remove(who)
            for each in self.pending.copy():
                self.answer(each, who, "left")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.log.append(("close", len(self.pending)))
            self.pending.clear()
            self.push("bye")
            self.inside.clear()


class Rooms(RuleBasedStateMachine):
    """Drives a room and the model by the same calls, and compares them after each call."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.log: list[Any] = []
        self.hub = VirtualHub(HubSetting[Any, Any](dict))
        self.hub.start()
        self.clients = [self.hub.connect() for _ in MEMBERS]
        self.alive = set(MEMBERS)
        self.made: list[tuple[Any, Pending]] = []
        self.frame = HotlineFrameOption[Any](list, self._logic, hz=1, on_close=self._on_close).run(
            self.hub.hotline()
        )
        self.hub.settle()

    def _logic(self, frame: Any, _: Any) -> None:
        tick = frame.tick
        self.log.append(("tick", tick.index, tick.skipped, tick.late))
        frame.push(f"tick {tick.index}")
        if self.slow:
            self.hub.clock.spend(self.slow)
            self.slow = 0.0

    slow = 0.0

    def _on_close(self, frame: Any, _: Any) -> None:
        outcomes = [each for each, _ in self.made if not hasattr(each, "inputs")]
        gates = [each for each, _ in self.made if hasattr(each, "inputs")]
        closed = [each for each in outcomes if each.outcome == "closed"]
        closed += [each for each in gates if not each.is_complete]
        self.log.append(("close", len(closed)))
        frame.push("bye")

    def noting(self, *what: Any) -> Callable[..., None]:
        return lambda *_: self.log.append(what)

    def unless_closed(self, call: Callable[[], Any]) -> Any:
        """Call it; in a closed room it is refused, and the model does nothing."""
        if not self.model.closed:
            return call()
        with pytest.raises(HotlineClosed):
            call()
        return None

    # Time.

    @rule(seconds=QUARTERS)
    def advance(self, seconds: float) -> None:
        self.slow = self.model.slow
        self.model.advance(seconds)
        self.hub.advance(seconds)
        self.hub.settle()

    @rule(seconds=QUARTERS)
    def the_next_tick_takes_long(self, seconds: float) -> None:
        self.model.slow = seconds

    @rule(inside=st.booleans())
    def pause(self, inside: bool) -> None:
        if inside and not self.model.closed:
            self.frame.exec_async(lambda frame, _: frame.pause())
        else:
            self.frame.pause()
        self.model.paused = True

    @rule(inside=st.booleans())
    def resume(self, inside: bool) -> None:
        if inside and not self.model.closed:
            self.frame.exec_async(lambda frame, _: frame.resume())
        else:
            self.frame.resume()
        self.hub.settle()
        self.model.paused = False
        self.model.settle()

    # Closures.

    @rule(number=st.integers())
    def exec_async(self, number: int) -> None:
        self.unless_closed(lambda: self.frame.exec_async(self.noting(number)))
        self.hub.settle()
        if not self.model.closed:
            self.model.log.append((number,))

    @rule(number=st.integers())
    def exec_sync(self, number: int) -> None:
        def work(*_: Any) -> int:
            self.log.append((number,))
            return number

        found = self.unless_closed(lambda: self.frame.exec_sync(work))
        if not self.model.closed:
            self.model.log.append((number,))
            assert found == number

    # Countdowns.

    @rule(timeout=QUARTERS)
    def operation_timeout(self, timeout: float) -> None:
        name = f"timeout {len(self.made)}"
        made = self.unless_closed(
            lambda: self.frame.operation_timeout(timeout, self.noting(name, "timeout"))
        )
        self.begin(made, name, timeout)

    @rule(timeout=QUARTERS, interval=QUARTERS)
    def operation_ticker(self, timeout: float, interval: float) -> None:
        name = f"ticker {len(self.made)}"
        made = self.unless_closed(
            lambda: self.frame.operation_ticker(
                timeout, self.noting(name, "timeout"), interval, self.noting(name, "tick")
            )
        )
        self.begin(made, name, timeout, interval)

    def begin(
        self, made: Any, name: str, timeout: float, interval: float | None = None
    ) -> Pending | None:
        if made is None:
            return None
        pending = Pending(name, self.model.now, timeout, interval)
        self.model.pending.append(pending)
        self.made.append((made, pending))
        return pending

    @precondition(lambda self: self.made)
    @rule(which=WHICH)
    def done(self, which: int) -> None:
        made, pending = self.made[which % len(self.made)]
        is_pending = pending in self.model.pending
        assert made.done() == is_pending
        if is_pending:
            self.model.pending.remove(pending)
            if pending.waiting is not None:
                self.model.complete(pending)
        self.hub.settle()

    @precondition(lambda self: self.made)
    @rule(which=WHICH, ends=st.booleans())
    def operation(self, which: int, ends: bool) -> None:
        made, pending = self.made[which % len(self.made)]
        if pending.waiting is not None:
            return
        is_pending = pending in self.model.pending

        def work(given: Any, _: Any) -> None:
            assert given is made
            self.log.append((pending.name, "operation"))
            if ends:
                assert given.done()

        assert made.operation(work) == is_pending
        self.hub.settle()
        if is_pending:
            self.model.log.append((pending.name, "operation"))
            if ends:
                self.model.pending.remove(pending)

    # Inputs.

    @rule(whom=st.lists(WHO, max_size=4), timeout=QUARTERS)
    def await_inputs(self, whom: list[int], timeout: float) -> None:
        name = f"gate {len(self.made)}"
        numbers = {self.clients[who].ctx: who for who in MEMBERS}

        def on_done(_frame: Any, _obj: Any, gate: Any) -> None:
            states = {numbers[ctx]: given.state.value for ctx, given in gate.inputs.items()}
            self.log.append((name, states))

        made = self.unless_closed(
            lambda: self.frame.await_inputs(
                [self.clients[who].ctx for who in whom], timeout, None, on_done
            )
        )
        self.hub.settle()
        gate = self.begin(made, name, timeout)
        if gate is not None:
            gate.waiting = dict.fromkeys(whom)
            for who in list(gate.waiting):
                if who not in self.model.inside:
                    self.model.answer(gate, who, "left")
            if not whom:
                self.model.pending.remove(gate)
                self.model.complete(gate)

    @precondition(lambda self: any(each.waiting is not None for _, each in self.made))
    @rule(which=WHICH, who=WHO)
    def answer_an_input(self, which: int, who: int) -> None:
        gates = [each for each in self.made if each[1].waiting is not None]
        made, gate = gates[which % len(gates)]
        expected = self.model.answer(gate, who, "answered")
        assert made.answer(self.clients[who].ctx, who) == expected
        self.hub.settle()

    # Members.

    @rule(who=WHO)
    def come(self, who: int) -> None:
        ctx = self.clients[who].ctx
        if who not in self.alive:  # nothing happens, in whatever room
            self.frame.answer(ctx)
            return
        self.unless_closed(lambda: self.frame.answer(ctx))
        if not self.model.closed and who not in self.model.inside:
            self.model.inside.append(who)

    @rule(who=WHO)
    def leave(self, who: int) -> None:
        self.frame.hangup(self.clients[who].ctx)
        self.hub.settle()
        self.model.leave(who)

    @precondition(lambda self: len(self.alive) > 1)
    @rule(who=WHO)
    def vanish(self, who: int) -> None:
        self.clients[who].drop()
        self.alive.discard(who)
        self.model.leave(who)

    @rule(text=st.text(max_size=3))
    def push(self, text: str) -> None:
        self.unless_closed(lambda: self.frame.push(text))
        self.hub.settle()
        if not self.model.closed:
            self.model.push(text)

    # The end.

    @precondition(lambda self: len(self.model.log) > 10)
    @rule(how=st.sampled_from(["close", "inside", "if empty", "behind a closure"]))
    def close(self, how: str) -> None:
        closed = self.model.closed
        if how == "if empty":
            empty = not self.model.inside
            assert self.frame.close_if_empty() == (closed or empty)
            if not empty:
                return
        elif how == "close" or closed:
            self.frame.close()
        elif how == "inside":
            self.frame.exec_sync(lambda frame, _: frame.close())
        else:
            self.frame.exec_async(self.noting("before"))
            self.frame.close()
            self.model.log.append(("before",))
        self.hub.settle()
        self.model.close()
        assert self.frame.join(0)

    # Invariants after each step.

    @invariant()
    def the_same_has_happened(self) -> None:
        model = self.model
        assert self.log == model.log
        assert self.hub.errors == []
        for who in self.alive:
            assert self.clients[who].messages() == model.inboxes[who]
            model.inboxes[who] = []
        assert self.frame.members == [self.clients[who].ctx for who in model.inside]
        assert self.frame.is_closed == model.closed
        for made, pending in self.made:
            left = pending.deadline - model.now if pending in model.pending else 0
            assert made.remaining == left
        statistics = self.frame.statistics()
        ticks = [each for each in model.log if each[0] == "tick" and len(each) == 4]
        assert statistics.ticks == len(ticks)
        assert statistics.skipped == sum(each[2] for each in ticks)
        assert statistics.paused == model.paused

    def teardown(self) -> None:
        self.hub.close()
        assert self.log[-1][0] == "close"
        assert sum(each[0] == "close" for each in self.log) == 1


def test_room_any_sequence_of_calls_does_what_the_model_does() -> None:
    """Ticks, pauses, closures, countdowns, inputs, members, close: in any order."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Rooms, settings=settings(max_examples=examples(50), stateful_step_count=40, deadline=None)
    )
