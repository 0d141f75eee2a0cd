"""The gate: one input of each member, or its default, or the news that it has left."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hubthread import (
    ContextNotClient,
    ExecTimeout,
    HotlineClosed,
    HotlineFrameOption,
    Input,
    InputState,
    SettingError,
    WrongThread,
)
from tests.rooms.ticking.hand_clock import AnyFrame, HandClock, Notes, by_hand, still
from tests.support import TIMEOUT, AnyClient, Gate, RawPeer, Serving, in_thread, serving, together

ANSWERED, DEFAULTED, LEFT = InputState.ANSWERED, InputState.DEFAULTED, InputState.LEFT


def table(s: Serving, count: int) -> tuple[HandClock, AnyFrame, list[RawPeer], list[AnyClient]]:
    """A room with so many members."""
    clock = by_hand(s.hub)
    pairs = s.pairs(count)
    frame = still(s.hub)
    for _, client in pairs:
        frame.answer(client)
    return clock, frame, [peer for peer, _ in pairs], [client for _, client in pairs]


def states(gate: Any) -> list[tuple[InputState, Any]]:
    return [(each.state, each.value) for each in gate.inputs.values()]


def test_it_is_complete_when_everybody_has_answered() -> None:
    """The first answer of each counts; on_done runs once, on the tick thread."""
    with serving() as s:
        clock, frame, _, (one, two) = table(s, 2)
        notes = Notes()
        gate = frame.await_inputs([one, two, one], 5, "none", lambda *given: notes.add(given))
        assert (gate.waiting, gate.inputs, gate.is_complete) == ([one, two], {}, False)
        assert (gate.frame, gate.remaining) == (frame, 5)
        assert repr(gate) == "<InputGate open, 0 there, 2 missing>"
        assert gate.answer(two, "b")
        assert not gate.answer(two, "c")
        clock.go(1)
        assert (gate.waiting, gate.remaining) == ([one], 4)
        assert gate.inputs == {two: Input(ANSWERED, "b")}
        assert gate.answer(one, "a")
        assert gate.wait(TIMEOUT) == {two: Input(ANSWERED, "b"), one: Input(ANSWERED, "a")}
        clock.rest()
        assert notes.now() == [(frame, [], gate)]
        assert (gate.is_complete, gate.remaining, gate.done()) == (True, 0, False)
        assert repr(gate) == "<InputGate complete, 2 there, 0 missing>"
        clock.go(50)
        assert len(notes.now()) == 1
        assert not gate.answer(one, "late")


def test_who_gives_none_in_time_gets_the_default() -> None:
    """And is too late from then on."""
    with serving() as s:
        clock, frame, _, (one, two) = table(s, 2)
        notes = Notes()
        gate = frame.await_inputs(
            [one, two], 5, "none", lambda _f, _o, gate: notes.add(gate.inputs)
        )
        gate.answer(one, "a")
        clock.go(4.5)
        assert not gate.is_complete
        clock.go(0.5)
        assert notes.now() == [{one: Input(ANSWERED, "a"), two: Input(DEFAULTED, "none")}]
        assert not gate.answer(two, "b")
        assert gate.wait(0) == notes.now()[0]


def test_who_leaves_is_not_waited_for() -> None:
    """By hanging up, or when the connection ends; and who was not in it, from the beginning."""
    with serving() as s:
        clock, frame, peers, clients = table(s, 4)
        frame.hangup(clients[3])
        notes = Notes()
        gate = frame.await_inputs(clients, 5, None, notes.noting("done"))
        assert gate.inputs == {clients[3]: Input(LEFT, None)}
        gate.answer(clients[0], "a")
        frame.hangup(clients[0])  # it has answered
        frame.hangup(clients[1])
        assert gate.waiting == [clients[2]]
        assert not gate.answer(clients[1], "late")
        peers[2].reset()
        assert gate.wait(TIMEOUT) == {
            clients[3]: Input(LEFT, None),
            clients[0]: Input(ANSWERED, "a"),
            clients[1]: Input(LEFT, None),
            clients[2]: Input(LEFT, None),
        }
        clock.rest()
        assert notes.now() == ["done"]


def test_nobody_is_complete_at_once() -> None:
    """And so are those who have left already."""
    with serving() as s:
        clock, frame, _, (one,) = table(s, 1)
        notes = Notes()
        frame.await_inputs([], 5, None, notes.noting("nobody"))
        frame.hangup(one)
        gate = frame.await_inputs([one], 5, 7, notes.noting("gone"))
        assert gate.wait(TIMEOUT) == {one: Input(LEFT, 7)}
        clock.rest()
        assert notes.now() == ["nobody", "gone"]
        assert frame.await_inputs([], 5, None).wait(TIMEOUT) == {}


def test_done_gives_the_rest_the_default() -> None:
    """From any thread, a tick's too."""
    with serving() as s:
        clock, frame, _, (one, two) = table(s, 2)
        notes = Notes()
        gate = frame.await_inputs([one, two], 5, 0, lambda _f, _o, gate: notes.add(states(gate)))
        gate.answer(one, 1)
        assert frame.exec_sync(lambda *_: gate.done())
        assert not gate.done()
        assert not gate.answer(two, 2)
        clock.rest()
        assert notes.now() == [[(ANSWERED, 1), (DEFAULTED, 0)]]


def test_it_stands_still_while_the_room_is_paused() -> None:
    """Answers are taken, and complete it, all the same."""
    with serving() as s:
        clock, frame, _, (one, two) = table(s, 2)
        gate = frame.await_inputs([one, two], 5, 0)
        other = frame.await_inputs([two], 5, 0)
        clock.go(4)
        frame.pause()
        clock.go(100)
        assert (gate.remaining, other.remaining) == (1, 1)
        gate.answer(one, 1)
        gate.answer(two, 2)
        assert set(gate.wait(TIMEOUT).values()) == {Input(ANSWERED, 1), Input(ANSWERED, 2)}
        assert not other.is_complete
        frame.resume()
        clock.go(1)
        assert other.wait(0) == {two: Input(DEFAULTED, 0)}


def test_the_rooms_end_ends_it_without_on_done() -> None:
    """Who waits is told; answers are too late."""
    with serving() as s:
        _, frame, _, (one, two) = table(s, 2)
        notes = Notes()
        gate = frame.await_inputs([one, two], 5, 0, notes.noting("done"))
        gate.answer(one, 1)
        waiting = in_thread(lambda: gate.wait(3 * TIMEOUT))  # that it is woken is the point
        frame.close()
        with pytest.raises(HotlineClosed, match="before all inputs were there"):
            waiting()
        assert frame.join(TIMEOUT)
        with pytest.raises(HotlineClosed):
            gate.wait()
        assert (gate.answer(two, 2), gate.done(), notes.now()) == (False, False, [])
        assert repr(gate) == "<InputGate closed, 1 there, 0 missing>"
        with pytest.raises(HotlineClosed):
            frame.await_inputs([one], 5, 0)


def test_answers_while_the_room_closes() -> None:
    """The close was first: none is taken, there is no on_done, and who waits is told."""
    with serving() as s:
        clock, frame, _, (one, two) = table(s, 2)
        notes, stop = Notes(), Gate()
        gate = frame.await_inputs([one, two], 5, 0, notes.noting("done"))
        other = frame.await_inputs([one], 5, 0, notes.noting("done"))
        frame.exec_async(stop)
        stop.reached()
        frame.close()
        assert not gate.answer(one, 1)
        assert not gate.answer(two, 2)
        assert gate.inputs == {}
        assert not other.done()
        with pytest.raises(HotlineClosed):
            other.wait(TIMEOUT)
        stop.open()
        with pytest.raises(HotlineClosed):
            gate.wait(TIMEOUT)
        assert frame.join(TIMEOUT)
        assert notes.now() == []
        clock.rest()


def test_a_last_answer_that_was_before_the_close() -> None:
    """On_done was accepted, so it runs, before on_close; also where the queue is full."""
    with serving() as s:
        by_hand(s.hub)
        _, one = s.pair()
        notes, stop = Notes(), Gate()
        frame = still(s.hub, control_size=1, on_close=notes.noting("close"))
        frame.answer(one)
        gate = frame.await_inputs([one], 5, 0, notes.noting("done"))
        frame.exec_async(stop)
        stop.reached()
        frame.exec_async(notes.noting("closure"))
        assert gate.answer(one, 1)
        frame.close()
        stop.open()
        assert gate.wait(TIMEOUT) == {one: Input(ANSWERED, 1)}
        assert frame.join(TIMEOUT)
        assert notes.now() == ["closure", "done", "close"]


def test_waiting_has_a_time_of_its_own_and_its_place() -> None:
    """Not on the hub thread, not in the room's callbacks."""
    with serving() as s:
        _, frame, _, (one,) = table(s, 1)
        gate = frame.await_inputs([one], 5, "none")
        with pytest.raises(ExecTimeout, match=r"1 inputs were still missing after 0\.001 s"):
            gate.wait(0.001)
        with pytest.raises(WrongThread):
            s.hub.exec_sync(lambda _: gate.wait(0))
        with pytest.raises(WrongThread, match="use on_done"):
            frame.exec_sync(lambda *_: gate.wait(0))
        waiting = in_thread(lambda: gate.wait(TIMEOUT))
        gate.answer(one, "x")
        assert list(waiting().values()) == [Input(ANSWERED, "x")]


def test_wrong_parameters_are_refused_at_the_call() -> None:
    """Members that are no clients, an on_done that cannot be called."""
    with serving() as s:
        _, frame, _, (one,) = table(s, 1)
        with pytest.raises(ContextNotClient, match="context not client: 'one'"):
            frame.await_inputs([one, "one"], 5, 0)  # type: ignore[list-item]
        with pytest.raises(SettingError, match=r"^on_done: expected a function or None"):
            frame.await_inputs([one], 5, 0, "done")  # type: ignore[arg-type]
        gate = frame.await_inputs([one], 5, 0)
        assert not gate.answer("two", 1)  # type: ignore[arg-type]
        assert gate.waiting == [one]


def test_on_done_that_raises_is_told_of() -> None:
    """The inputs are there all the same."""
    with serving() as s:
        clock, frame, _, (one,) = table(s, 1)
        gate = frame.await_inputs([one], 5, 0, lambda *_: 1 / 0)
        gate.answer(one, 1)
        assert gate.wait(TIMEOUT)
        clock.rest()
        assert ["on_done raised" in each for each in s.logs.warnings()] == [True]


def test_members_answer_by_their_messages() -> None:
    """What it is for: a round of a game, with a member who is slow and one who goes."""
    gates: list[Any] = []

    def answer(ctx: Any, meta: Any) -> bool:
        ctx.write("taken" if gates[-1].answer(ctx, ctx.payload) else "too late")
        return True

    def end(frame: AnyFrame, obj: Any, gate: Any) -> None:
        frame.push_json([[each.state.value, each.value] for each in gate.inputs.values()])

    with serving(on_receive_message=answer) as s:
        clock, frame, peers, clients = table(s, 3)
        gates.append(frame.await_inputs(clients, 10, "pass", end))
        peers[0].send("rock")
        assert peers[0].message() == "taken"
        peers[0].send("paper")
        assert peers[0].message() == "too late"
        frame.hangup(clients[1])
        clock.go(10)
        expected = '[["answered","rock"],["left","pass"],["defaulted","pass"]]'
        assert (peers[0].message(), peers[2].message()) == (expected, expected)
        peers[2].send("scissors")
        assert peers[2].message() == "too late"


@pytest.mark.usefixtures("hasty_threads")
def test_answers_leaving_done_time_and_close_at_once() -> None:
    """Each member has one state, which its own calls agree with; on_done runs at most once."""
    with serving() as s:
        clock = by_hand(s.hub)
        pairs = s.pairs(4)
        clients = [client for _, client in pairs]
        for number in range(60):
            notes = Notes()
            frame = HotlineFrameOption[Any](list).run(s.hub.hotline())
            for client in clients:
                frame.answer(client)
            gate = frame.await_inputs(clients, 1, "default", notes.noting("done"))
            clock.rest()
            answered: set[AnyClient] = set()
            lock = threading.Lock()

            def act(
                who: int,
                number: int = number,
                frame: AnyFrame = frame,
                gate: Any = gate,
                answered: set[AnyClient] = answered,
                lock: threading.Lock = lock,
            ) -> None:
                if who < 3:
                    if who == number % 3:
                        frame.hangup(clients[who])
                    if gate.answer(clients[who], who):
                        with lock:
                            answered.add(clients[who])
                    elif who == 2:
                        gate.done()
                elif who == 3:
                    if number % 4 == 0:
                        frame.close()
                    elif number % 2:
                        clock.advance(1)
                    else:
                        gate.answer(clients[3], 3)

            together(4, act)
            if number % 4:
                clock.advance(1)
                found = gate.wait(TIMEOUT)
                assert set(found) == set(clients)
                assert {each for each, given in found.items() if given.state is ANSWERED} - {
                    clients[3]
                } == answered
                clock.rest()
                assert notes.now() == ["done"]
            frame.close()
            assert frame.join(TIMEOUT)
            assert len(notes.now()) == (1 if gate.is_complete else 0)
            if not gate.is_complete:
                with pytest.raises(HotlineClosed):
                    gate.wait(TIMEOUT)
