"""The close table: whatever comes, in whatever order, it ends well and once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message
from wsproto.utilities import LocalProtocolError

from hubthread.protocol.closing import TABLE, Action, CloseEvent, CloseState, Closing, Initiator
from hubthread.protocol.frames import encode_close

LOCAL, PEER, FAILURE = (
    CloseEvent.LOCAL_CLOSE,
    CloseEvent.PEER_CLOSE,
    CloseEvent.PROTOCOL_FAILURE,
)
LOST = (CloseEvent.END_OF_FILE, CloseEvent.TIMEOUT)


def outcome(closing: Closing) -> tuple[int | None, str, Initiator | None, bool]:
    """What the application is told."""
    return closing.code, closing.reason, closing.initiator, closing.clean


def close(closing: Closing, event: CloseEvent) -> tuple[Action, ...]:
    """``event`` with a code where it has one."""
    return closing.on(event) if event in LOST else closing.on(event, 1002, event.name)


def test_the_table_answers_everything() -> None:
    """Each state has a row for each event, so no order of events is an error."""
    assert set(TABLE) == set(CloseState)
    assert all(set(row) == set(CloseEvent) for row in TABLE.values())


def test_no_state_is_left_backwards() -> None:
    """The states are passed in their order, and CLOSED is the last."""
    order = list(CloseState)
    for state, row in TABLE.items():
        for after, _ in row.values():
            assert order.index(after) >= order.index(state)
    assert set(TABLE[CloseState.CLOSED].values()) == {(CloseState.CLOSED, ())}


@pytest.mark.parametrize("events", list(itertools.product(CloseEvent, repeat=3)))
def test_every_order_of_events(events: tuple[CloseEvent, ...]) -> None:
    """One Close frame at most, one report, the first cause; then the transport's end."""
    closing = Closing()
    actions: list[Action] = []
    first: tuple[int | None, str, Initiator | None] | None = None
    for event in events:
        actions += close(closing, event)
        cause = (closing.code, closing.reason, closing.initiator)
        first = first or cause
        assert cause == first
    actions += closing.on(CloseEvent.END_OF_FILE)
    assert closing.state is CloseState.CLOSED
    assert actions.count(Action.SEND_CLOSE) == (events[0] not in LOST)
    assert actions.count(Action.REPORT) == 1
    assert actions.count(Action.DROP_TRANSPORT) == 1
    assert actions[-1] in (Action.DROP_TRANSPORT, Action.REPORT)
    if Action.FINISH_TRANSPORT in actions:
        assert Action.SEND_CLOSE in actions[: actions.index(Action.FINISH_TRANSPORT)]


class AnyOrder(RuleBasedStateMachine):
    """A connection to which everything happens, against the promises of the module."""

    @initialize()
    def begin(self) -> None:
        self.closing = Closing()
        self.sent: list[bytes] = []
        self.reports: list[object] = []
        self.dropped = 0

    def carry_out(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if action is Action.SEND_CLOSE:
                self.sent.append(self.closing.close_frame)
            elif action is Action.REPORT:
                self.reports.append(outcome(self.closing))
            elif action is Action.DROP_TRANSPORT:
                self.dropped += 1

    @rule(code=st.none() | st.integers(0, 6000))
    def local_close(self, code: int | None) -> None:
        before = self.closing.state, outcome(self.closing)
        try:
            self.carry_out(self.closing.on(LOCAL, code))
        except ValueError:
            assert (self.closing.state, outcome(self.closing)) == before

    @rule(code=st.none() | st.integers(1000, 4999), reason=st.text(max_size=200))
    def peer_close(self, code: int | None, reason: str) -> None:
        self.carry_out(self.closing.on(PEER, code, reason if code else ""))

    @rule(code=st.sampled_from([1002, 1007, 1009]))
    def failure(self, code: int) -> None:
        self.carry_out(self.closing.on(FAILURE, code, "why"))

    @rule(event=st.sampled_from(LOST))
    def lost(self, event: CloseEvent) -> None:
        self.carry_out(self.closing.on(event))
        assert self.closing.state is CloseState.CLOSED

    @invariant()
    def promises_hold(self) -> None:
        assert len(self.sent) <= 1
        assert all(frame[0] == 0x88 and len(frame) <= 127 for frame in self.sent)
        assert self.closing.may_send == (self.closing.state is CloseState.OPEN)
        assert self.closing.may_send == (self.closing.code is None)
        assert self.dropped == (self.closing.state is CloseState.CLOSED)
        settled = self.closing.state in (CloseState.CLOSE_RECEIVED, CloseState.CLOSED)
        # What was reported stays true.
        assert self.reports == [outcome(self.closing)] * settled


TestAnyOrder = AnyOrder.TestCase


def test_we_close_and_the_peer_agrees() -> None:
    """Our code stands, the end is clean, and the transport ends after what is queued."""
    closing = Closing()
    assert closing.on(LOCAL, 1001, "moving") == (Action.SEND_CLOSE,)
    assert closing.close_frame == encode_close(1001, "moving")
    assert outcome(closing) == (1001, "moving", "server", False)
    assert closing.on(PEER, 4000, "me too") == (Action.FINISH_TRANSPORT, Action.REPORT)
    assert outcome(closing) == (1001, "moving", "server", True)
    assert closing.on(CloseEvent.END_OF_FILE) == (Action.DROP_TRANSPORT,)


def test_the_peer_closes() -> None:
    """Its Close is echoed and reported, and the end is clean."""
    closing = Closing()
    actions = closing.on(PEER, 4001, "bye")
    assert actions == (Action.SEND_CLOSE, Action.FINISH_TRANSPORT, Action.REPORT)
    assert closing.close_frame == encode_close(4001, "bye")
    assert outcome(closing) == (4001, "bye", "client", True)


def test_an_empty_close_is_echoed_empty_and_reported_as_1005() -> None:
    """1005 is a word for the application, not for the wire; from either side."""
    for event in (PEER, LOCAL):
        closing = Closing()
        closing.on(event)
        assert closing.close_frame == b"\x88\x00"
        assert closing.code == 1005


@pytest.mark.parametrize("code", [1004, 1005, 1006, 1015, 2000, 5000])
def test_a_code_that_must_not_be_sent_is_answered_with_1002(code: int) -> None:
    """What the peer should not have sent is reported but not sent back."""
    closing = Closing()
    closing.on(PEER, code, "odd")
    assert closing.close_frame == encode_close(1002)
    assert closing.code == code


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 5000])
def test_a_local_close_with_such_a_code_changes_nothing(code: int) -> None:
    """The caller hears of its mistake and may close again with a better code."""
    closing = Closing()
    with pytest.raises(ValueError, match="must not be sent"):
        closing.on(LOCAL, code)
    assert closing.may_send
    assert outcome(closing) == (None, "", None, False)
    assert closing.on(LOCAL, 1000) == (Action.SEND_CLOSE,)


def test_a_violation_is_answered_and_not_waited_for() -> None:
    """After it the peer is not listened to (RFC 6455 section 7.1.7), so no Close is awaited."""
    closing = Closing()
    actions = closing.on(FAILURE, 1009, "message too big")
    assert actions == (Action.SEND_CLOSE, Action.FINISH_TRANSPORT, Action.REPORT)
    assert closing.close_frame == encode_close(1009, "message too big")
    assert outcome(closing) == (1009, "message too big", "server", False)
    assert closing.on(PEER, 1000) == ()
    assert not closing.clean


@pytest.mark.parametrize("event", LOST)
def test_1006_is_reported_and_never_sent(event: CloseEvent) -> None:
    """A transport that ends by itself is told as 1006, from the network."""
    closing = Closing()
    assert closing.on(event, reason="gone") == (Action.DROP_TRANSPORT, Action.REPORT)
    assert closing.close_frame == b""
    assert outcome(closing) == (1006, "gone", "network", False)


@pytest.mark.parametrize("event", LOST)
def test_a_peer_that_does_not_answer_our_close(event: CloseEvent) -> None:
    """Our code stands, but the end is not clean."""
    closing = Closing()
    closing.on(LOCAL, 1000)
    assert closing.on(event) == (Action.DROP_TRANSPORT, Action.REPORT)
    assert outcome(closing) == (1000, "", "server", False)


def test_trap_3_nothing_is_sent_after_our_close() -> None:
    """wsproto raises when a Ping is answered after a Close; may_send asks before."""
    connection = Connection(ConnectionType.SERVER)
    connection.send(CloseConnection(1000))
    with pytest.raises(LocalProtocolError):
        connection.send(Message("late"))
    for event in (LOCAL, PEER, FAILURE):
        closing = Closing()
        assert closing.may_send
        close(closing, event)
        assert not closing.may_send


def test_trap_7_a_second_close_is_nothing() -> None:
    """wsproto raises on it; here it does nothing, and the first cause stands."""
    connection = Connection(ConnectionType.SERVER)
    connection.send(CloseConnection(1000))
    with pytest.raises(LocalProtocolError):
        connection.send(CloseConnection(1000))
    closing = Closing()
    closing.on(LOCAL, 1000, "first")
    frame = closing.close_frame
    assert closing.on(LOCAL, 1011, "second") == ()
    assert closing.on(LOCAL, 1006) == ()
    assert (closing.close_frame, closing.code, closing.reason) == (frame, 1000, "first")


def test_others_understand_the_handshake() -> None:
    """wsproto as the client takes our echo for the end of its closing handshake."""
    client = Connection(ConnectionType.CLIENT)
    client.send(CloseConnection(1000, "done"))
    closing = Closing()
    closing.on(PEER, 1000, "done")
    client.receive_data(closing.close_frame)
    assert list(client.events()) == [CloseConnection(1000, "done")]
    assert client.state is ConnectionState.CLOSED
