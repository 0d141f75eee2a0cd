"""The input gate: one input of each member, or its default, or that the member has left."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    ContextNotClient,
    ExecTimeout,
    HotlineClosed,
    HubSetting,
    Input,
    InputState,
    SettingError,
    WrongThread,
    WrongType,
)
from hubthread.testing import VirtualClient, VirtualHub
from tests.rooms.ticking.hand_clock import Noted, by_hand
from tests.rooms.ticking.rooms import AnyFrame, AnyVirtualHub, noting, raised, run
from tests.support import TIMEOUT, AnyClient, Items, in_thread, serving, together

ANSWERED, DEFAULTED, LEFT = InputState.ANSWERED, InputState.DEFAULTED, InputState.LEFT


def table(
    hub: AnyVirtualHub, count: int, **fields: Any
) -> tuple[AnyFrame, list[VirtualClient], list[AnyClient]]:
    """Return a room with ``count`` members, their clients and their contexts."""
    frame = run(hub, **fields)
    clients = [hub.connect() for _ in range(count)]
    for client in clients:
        frame.answer(client.ctx)
    return frame, clients, [client.ctx for client in clients]


def test_gate_every_member_answers_completes_it(hub: AnyVirtualHub) -> None:
    """The first answer of each counts; ``on_done`` runs once."""
    frame, _, (one, two) = table(hub, 2)
    notes: list[Any] = []
    gate = frame.await_inputs([one, two, one], 5, "none", lambda *given: notes.append(given))
    assert (gate.waiting, gate.inputs, gate.is_complete) == ([one, two], {}, False)
    assert (gate.frame, gate.remaining) == (frame, 5)
    assert repr(gate) == "<InputGate open, 0 there, 2 missing>"
    assert gate.answer(two, "b")
    assert not gate.answer(two, "c")
    hub.advance(1)
    assert (gate.waiting, gate.remaining) == ([one], 4)
    assert gate.inputs == {two: Input(ANSWERED, "b")}
    assert gate.answer(one, "a")
    assert gate.wait() == {two: Input(ANSWERED, "b"), one: Input(ANSWERED, "a")}
    assert notes == [(frame, [], gate)]
    assert (gate.is_complete, gate.remaining, gate.done()) == (True, 0, False)
    assert repr(gate) == "<InputGate complete, 2 there, 0 missing>"
    hub.advance(50)
    assert len(notes) == 1
    assert not gate.answer(one, "late")


def test_gate_time_is_up_gives_the_default(hub: AnyVirtualHub) -> None:
    """A later answer is refused."""
    frame, _, (one, two) = table(hub, 2)
    notes: list[Any] = []
    gate = frame.await_inputs(
        [one, two], 5, "none", lambda _f, _o, gate: notes.append(gate.inputs)
    )
    gate.answer(one, "a")
    hub.advance(4.5)
    assert not gate.is_complete
    hub.advance(0.5)
    assert notes == [{one: Input(ANSWERED, "a"), two: Input(DEFAULTED, "none")}]
    assert not gate.answer(two, "b")
    assert gate.wait(0) == notes[0]


def test_gate_room_closes_takes_no_answer_and_calls_no_on_done(hub: AnyVirtualHub) -> None:
    """Answers are refused from the close on, even while accepted closures still run."""
    frame, _, (one, two) = table(hub, 2)
    notes: list[Any] = []
    gate = frame.await_inputs([one, two], 5, 0, noting(notes, "done"))
    other = frame.await_inputs([one], 5, 0, noting(notes, "done"))
    assert other.answer(two, 1) is False  # not asked
    gate.answer(one, 1)
    frame.exec_async(noting(notes, "closure"))
    frame.close()
    assert not gate.answer(two, 2)
    assert gate.inputs == {one: Input(ANSWERED, 1)}
    assert not other.done()
    with pytest.raises(HotlineClosed, match="hotline 1 closed before all inputs had arrived"):
        other.wait(0)
    hub.settle()
    with pytest.raises(HotlineClosed):
        gate.wait()
    assert (gate.answer(two, 2), gate.done(), notes) == (False, False, ["closure"])
    assert repr(gate) == "<InputGate closed, 1 there, 0 missing>"
    with pytest.raises(HotlineClosed):
        frame.await_inputs([one], 5, 0)


def test_gate_last_answer_before_the_close_calls_on_done(hub: AnyVirtualHub) -> None:
    """``on_done`` runs before ``on_close``, even if the queue of closures is full."""
    notes: list[Any] = []
    frame, _, (one,) = table(hub, 1, control_size=1, on_close=noting(notes, "close"))
    gate = frame.await_inputs([one], 5, 0, noting(notes, "done"))
    frame.exec_async(noting(notes, "closure"))
    assert gate.answer(one, 1)
    frame.close()
    hub.settle()
    assert gate.wait() == {one: Input(ANSWERED, 1)}
    assert notes == ["closure", "done", "close"]


def test_gate_wrong_parameters_are_refused_at_the_call(hub: AnyVirtualHub) -> None:
    """Members that are not clients, an ``on_done`` that cannot be called."""
    frame, _, (one,) = table(hub, 1)
    single: list[tuple[Any, str]] = [
        (frame, r"expected a list of clients, got <.*>; give room\.members"),
        (one, r"expected a list of clients, got <Client .*>; give \[ctx\]"),
    ]
    for members, told in single:
        with pytest.raises(WrongType, match=told):
            frame.await_inputs(members, 5, 0)
    wrong: Any = "one"
    with pytest.raises(ContextNotClient, match="context not client: 'one'"):
        frame.await_inputs([one, wrong], 5, 0)
    with pytest.raises(SettingError, match=r"^on_done: expected a function"):
        frame.await_inputs([one], 5, 0, wrong)
    gate = frame.await_inputs([one], 5, 0)
    with pytest.raises(ContextNotClient, match="context not client: 'one'; give the member's ctx"):
        gate.answer(wrong, 1)
    assert gate.waiting == [one]


def test_gate_on_done_raises_keeps_the_inputs(hub: AnyVirtualHub) -> None:
    frame, _, (one,) = table(hub, 1)
    gate = frame.await_inputs([one], 5, 0, lambda *_: 1 / 0)
    gate.answer(one, 1)
    assert gate.wait() == {one: Input(ANSWERED, 1)}
    assert raised(hub) == [ZeroDivisionError]


def test_gate_members_answer_by_their_messages() -> None:
    """A round of a game, with a member that is slow and one that leaves."""
    gates: list[Any] = []

    def answer(ctx: Any, meta: Any) -> bool:
        ctx.write("taken" if gates[-1].answer(ctx, ctx.payload) else "too late")
        return True

    def end(frame: AnyFrame, obj: Any, gate: Any) -> None:
        frame.push_json([[each.state.value, each.value] for each in gate.inputs.values()])

    with VirtualHub(HubSetting[Any, Any](dict, on_receive_message=answer)) as hub:
        frame, clients, members = table(hub, 3)
        gates.append(frame.await_inputs(members, 10, "pass", end))
        clients[0].send("rock")
        clients[0].send("paper")
        hub.settle()
        assert clients[0].messages() == ["taken", "too late"]
        frame.hangup(members[1])
        hub.advance(10)
        expected = ['[["answered","rock"],["left","pass"],["defaulted","pass"]]']
        assert [client.messages() for client in clients] == [expected, [], expected]
        clients[2].send("scissors")
        hub.settle()
        assert clients[2].messages() == ["too late"]


def test_gate_wait_is_refused_where_it_would_wait_for_itself(hub: AnyVirtualHub) -> None:
    """These places are the hub thread and the room's callbacks."""
    frame, _, (one,) = table(hub, 1)
    gate = frame.await_inputs([one], 5, "none")
    with pytest.raises(WrongThread):
        hub.exec_sync(lambda _: gate.wait(0))
    with pytest.raises(WrongThread, match="use on_done"):
        frame.exec_sync(lambda *_: gate.wait(0))


# Threads.


@pytest.mark.usefixtures("tick_threads")
def test_gate_wait_is_woken_by_an_answer_by_the_close_and_by_its_timeout() -> None:
    with serving() as s:
        _, client = s.pair()
        frame = run(s.hub)
        frame.answer(client)
        gate = frame.await_inputs([client], 60, "none")
        with pytest.raises(ExecTimeout, match=r"1 inputs were still missing after 0\.001 s"):
            gate.wait(0.001)
        waiting = in_thread(lambda: gate.wait(3 * TIMEOUT))
        gate.answer(client, "x")
        assert waiting() == {client: Input(ANSWERED, "x")}
        other = frame.await_inputs([client], 60, "none")
        waiting = in_thread(lambda: other.wait(3 * TIMEOUT))
        frame.close()
        with pytest.raises(HotlineClosed):
            waiting()
        assert frame.join(TIMEOUT)


@pytest.mark.usefixtures("hasty_threads")
def test_gate_answers_leaving_done_time_and_close_at_once_agree() -> None:
    """Each member has one state, as its calls have returned; ``on_done`` runs at most once."""
    with serving() as s:
        clock = by_hand(s.hub)
        clients = [client for _, client in s.pairs(4)]
        for number in range(60):
            notes = Noted()
            frame = run(s.hub)
            for client in clients:
                frame.answer(client)
            gate = frame.await_inputs(clients, 1, "default", notes.noting("done"))
            clock.rest()
            answered: Items[AnyClient] = Items()

            def act(
                who: int,
                number: int = number,
                frame: AnyFrame = frame,
                gate: Any = gate,
                answered: Items[AnyClient] = answered,
            ) -> None:
                if who < 3:
                    if who == number % 3:
                        frame.hangup(clients[who])
                    if gate.answer(clients[who], who):
                        answered.add(clients[who])
                    elif who == 2:
                        gate.done()
                elif number % 4 == 0:
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
                mine = {each for each, given in found.items() if given.state is ANSWERED}
                assert mine - {clients[3]} == set(answered.now())
                clock.rest()
                assert notes.now() == ["done"]
            frame.close()
            assert frame.join(TIMEOUT)
            assert len(notes.now()) == (1 if gate.is_complete else 0)
            if not gate.is_complete:
                with pytest.raises(HotlineClosed):
                    gate.wait(TIMEOUT)
