"""The table of the closing handshake: every order of events ends well, and once."""

from __future__ import annotations

import itertools

import pytest
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message
from wsproto.utilities import LocalProtocolError

from hubthread.errors import UsageError
from hubthread.protocol.closing import TABLE, Action, CloseEvent, CloseState, Closing
from hubthread.protocol.frames import encode_close

LOCAL, PEER, FAILURE = (
    CloseEvent.LOCAL_CLOSE,
    CloseEvent.PEER_CLOSE,
    CloseEvent.PROTOCOL_FAILURE,
)
LOST = (CloseEvent.END_OF_FILE, CloseEvent.TIMEOUT)


def outcome(closing: Closing) -> tuple[int | None, str, bool]:
    return closing.code, closing.reason, closing.clean


def take(closing: Closing, event: CloseEvent) -> Action | None:
    """Give ``event`` to the table, with a code if the event has one."""
    return closing.on(event) if event in LOST else closing.on(event, 1002, event.name)


def test_table_has_a_row_for_each_state_and_event() -> None:
    assert set(TABLE) == set(CloseState)
    assert all(set(row) == set(CloseEvent) for row in TABLE.values())


def test_table_states_only_go_forward() -> None:
    order = list(CloseState)
    for state, row in TABLE.items():
        for after, _ in row.values():
            assert order.index(after) >= order.index(state)
    assert set(TABLE[CloseState.CLOSED].values()) == {(CloseState.CLOSED, None)}


@pytest.mark.parametrize("events", list(itertools.product(CloseEvent, repeat=3)))
def test_closing_any_order_of_events_sends_one_close_and_drops_once(
    events: tuple[CloseEvent, ...],
) -> None:
    """The first cause stands, the Close frame never changes, and the drop is the last action."""
    closing = Closing()
    actions: list[Action] = []
    first: tuple[int | None, str, bytes] | None = None
    for event in (*events, CloseEvent.END_OF_FILE):
        action = take(closing, event)
        cause = (closing.code, closing.reason, closing.close_frame)
        first = first or cause
        assert cause == first
        if action is not None:
            actions.append(action)
    assert closing.state is CloseState.CLOSED
    assert (Action.FINISH in actions) == (closing.close_frame != b"") == (events[0] not in LOST)
    assert actions.count(Action.DROP) == 1
    assert actions[-1] is Action.DROP


def test_closing_local_close_answered_by_peer_is_clean() -> None:
    """Our code stands, and the Close frame is finished again: it may still be queued."""
    closing = Closing()
    assert closing.on(LOCAL, 1001, "moving") is Action.FINISH
    assert closing.close_frame == encode_close(1001, "moving")
    assert outcome(closing) == (1001, "moving", False)
    assert closing.on(PEER, 4000, "me too") is Action.FINISH
    assert closing.close_frame == encode_close(1001, "moving")
    assert outcome(closing) == (1001, "moving", True)
    assert closing.on(CloseEvent.END_OF_FILE) is Action.DROP


def test_closing_peer_close_is_echoed_and_clean() -> None:
    closing = Closing()
    assert closing.on(PEER, 4001, "bye") is Action.FINISH
    assert closing.close_frame == encode_close(4001, "bye")
    assert outcome(closing) == (4001, "bye", True)


@pytest.mark.parametrize("event", [PEER, LOCAL])
def test_closing_without_code_sends_empty_close_and_reports_1005(event: CloseEvent) -> None:
    closing = Closing()
    closing.on(event)
    assert closing.close_frame == b"\x88\x00"
    assert closing.code == 1005


@pytest.mark.parametrize("code", [1004, 1005, 1006, 1015, 2000, 5000])
def test_closing_peer_close_with_unsendable_code_is_answered_by_1002(code: int) -> None:
    """The peer's code is reported, but not sent back."""
    closing = Closing()
    closing.on(PEER, code, "odd")
    assert closing.close_frame == encode_close(1002)
    assert closing.code == code


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 1015, 5000])
def test_closing_local_close_with_unsendable_code_raises_and_changes_nothing(code: int) -> None:
    closing = Closing()
    with pytest.raises(UsageError, match="close code: expected 1000 to"):
        closing.on(LOCAL, code)
    assert closing.may_send
    assert outcome(closing) == (None, "", False)
    assert closing.on(LOCAL, 1000) is Action.FINISH


def test_closing_protocol_failure_awaits_no_close_of_the_peer() -> None:
    """After a violation the peer is not listened to (RFC 6455 section 7.1.7)."""
    closing = Closing()
    assert closing.on(FAILURE, 1009, "message too big") is Action.FINISH
    assert closing.close_frame == encode_close(1009, "message too big")
    assert closing.on(PEER, 1000) is None
    assert outcome(closing) == (1009, "message too big", False)


@pytest.mark.parametrize("event", LOST)
def test_closing_lost_transport_reports_1006_and_sends_nothing(event: CloseEvent) -> None:
    closing = Closing()
    assert closing.on(event, reason="gone") is Action.DROP
    assert closing.close_frame == b""
    assert outcome(closing) == (1006, "gone", False)


@pytest.mark.parametrize("event", LOST)
def test_closing_unanswered_local_close_keeps_code_and_is_not_clean(event: CloseEvent) -> None:
    closing = Closing()
    closing.on(LOCAL, 1000)
    assert closing.on(event) is Action.DROP
    assert outcome(closing) == (1000, "", False)


@pytest.mark.parametrize("event", [LOCAL, PEER, FAILURE])
def test_closing_may_send_is_false_after_our_close(event: CloseEvent) -> None:
    """wsproto raises when a message follows a Close; ``may_send`` is asked before."""
    connection = Connection(ConnectionType.SERVER)
    connection.send(CloseConnection(1000))
    with pytest.raises(LocalProtocolError):
        connection.send(Message("late"))
    closing = Closing()
    assert closing.may_send
    take(closing, event)
    assert not closing.may_send


def test_closing_echo_ends_the_handshake_of_wsproto() -> None:
    client = Connection(ConnectionType.CLIENT)
    client.send(CloseConnection(1000, "done"))
    closing = Closing()
    closing.on(PEER, 1000, "done")
    client.receive_data(closing.close_frame)
    assert list(client.events()) == [CloseConnection(1000, "done")]
    assert client.state is ConnectionState.CLOSED
