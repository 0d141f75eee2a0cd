"""The states of a link: one wish, one epoch, one connection, and the deadlines.

Layer: client.  Threads: the caller holds the lock of the link.

The program has a *wish*: to be connected or not.  Each attempt to connect has an *epoch*, a
number.  Each event of a connection belongs to an epoch, and an event of an old epoch is ignored.
The state changes first; listeners are called afterwards.

The machine has no thread, no socket and no clock.  A ``Driver`` has them: it asks the machine for
``task`` and ``due``, and calls the methods ``on_…``.  ``hubthread.js`` has the same states, waits
and words; both are tested with the same cases.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hubthread.client.interfaces import Driver, Fate, Joining, State, Task, Token, Tunables
from hubthread.client.queue import Entry, Queue
from hubthread.client.requests import Requests
from hubthread.client.server_clock import MOST_CLOCK, ServerClock
from hubthread.errors import HubThreadError, PayloadError
from hubthread.matcher.jsontext import load_json
from hubthread.protocol.close_codes import (
    MOST_RETRY,
    Advice,
    advice_of,
    backoff,
    split_reason,
    spread,
    wait_range,
)
from hubthread.protocol.envelope import SUBPROTOCOL

__all__ = ["Machine"]

RENEWED = (0.6, 0.8)
"""The parts of a token's time between which it is renewed."""
LEAST_RENEWAL = 1.0
"""The least wait in seconds before a token is renewed, however short its time is."""
TOKEN_RETRY = 5.0
"""The longest wait in seconds after a token function that failed to renew."""
CONNECT_TIMEOUT = 10.0
"""Seconds for the connection and the hub's hello together."""
STEADY = 5.0
"""Seconds after which an open connection resets the backoff."""
QUIET = 25.0
"""Seconds without a byte after which the link asks the server for a sign of life."""
PATIENCE = 4.0
"""Seconds without an answer after which the link gives up the connection."""
BUFFERED = 1 << 20
"""Bytes that wait for the socket, beyond which new messages wait in the queue."""
LOOK_AGAIN = 0.1
"""Seconds between two looks at a socket that is full."""
MOST_EARLY = 64
"""The most messages before the hub's hello."""
MOST_EARLY_SIZE = 1 << 20
"""The most characters and bytes of these messages."""
MOST_NUMBER = 2**63
"""The bound of the numbers of a session's messages."""

NORMAL = 1000
PROTOCOL_ERROR = 1002
_LOGIN = 401
_LATER = frozenset({408, 421, 425, 429})


def _ignore(error: HubThreadError) -> None:
    """Ignore the loss of a request that the machine itself has made."""


class Machine:
    """The state machine of one link.

    :param on_message: called with each message as it came, and its JSON value or ``None``.
    :param emit: called with the name of an event and its values, for the listeners.
    :param renew: called when the token is about to expire.  ``on_renewal`` brings the next token.
    """

    def __init__(
        self,
        driver: Driver,
        tunables: Tunables,
        on_message: Callable[[str | bytes, Any], object],
        emit: Callable[..., object],
        renew: Callable[[], object],
    ) -> None:
        self._driver = driver
        self._tunables = tunables
        self._on_message = on_message
        self._emit = emit
        self._renew_token = renew
        self.rooms: dict[str, Joining] = {}
        self.named: set[str] = set()
        """The names of all rooms that the program has asked for, even if it has left them."""
        self._left: set[str] = set()  # rooms that were left while the session was away
        self.state: State = "idle"
        self.reason = ""
        self.retry_due = math.inf
        self.epoch = 0
        self.session: str | None = None
        self._got: int | None = None  # the number of the last message of the session
        self.id: int | str | None = None
        self._queue = Queue(tunables.messages, tunables.size)
        self.requests = Requests(self._queue)
        self._wish = False
        self._task: Task | None = None
        self._connected = False  # the handshake of the present epoch is complete
        self._spoken = False  # the hub has said hello
        self._early: deque[str | bytes] = deque()
        self._failures = 0
        self._refused_token = False
        self._started_at = 0.0
        self._opened_at = 0.0
        self._heard_at = 0.0
        self._asked: float | None = None
        self._connect_due = math.inf
        self._token_due = math.inf
        self._looked_at = 0.0  # the time of the last look at a full socket
        self.clock = ServerClock()

    # For the program.

    def connect(self) -> None:
        """Connect, and connect again after each loss."""
        if self._wish and self.state not in ("idle", "ended"):  # idle after an interrupted call
            return
        self._wish = True
        self._failures = 0
        self._refused_token = False
        self._attempt()

    def disconnect(self) -> None:
        """End the connection, and make no other."""
        self._wish = False
        self._drop(NORMAL)
        # Another user may log in before the next ``connect``.
        self.session = self._got = None
        self._forget("the link is disconnected")
        self._become("idle", "")

    def retry_now(self) -> None:
        """Try at once instead of later."""
        if self._wish and self.state in ("waiting", "resting"):
            self._attempt()

    def post(
        self,
        data: str | bytes,
        *,
        ttl: float = math.inf,
        key: Any = None,
        volatile: bool = False,
        request: int | None = None,
    ) -> Fate:
        """Send a message, or queue it."""
        now = self._driver.now()
        if self.state == "resting":
            self._attempt()
        if self.state == "open" and now - self._heard_at > QUIET + PATIENCE:
            self._ask()  # the computer may have slept, and the connection may be dead
        if self.state == "open" and not self._queue and self._driver.buffered <= BUFFERED:
            self._driver.send(data)
            if request is not None:
                self.requests.note_sent(request)
            return "sent"
        if volatile or not self._wish or self.state == "ended":
            return "dropped"
        if not self._queue.add(Entry(data, key, now + ttl, request), now):
            return "dropped"
        self._driver.wake()
        return "queued"

    def enter(self, room: Joining) -> None:
        """Take a room that the program holds, and join it."""
        self.rooms[room.name] = room
        self._left.discard(room.name)
        self.named.add(room.name)
        self.join(room)

    def join(self, room: Joining) -> None:
        """Ask the server to let the client into a room, unless it is in."""
        message = room.joining() if self._connected else None
        if message is None:
            return
        epoch = self.epoch

        def refused(error: HubThreadError) -> None:
            if epoch == self.epoch:
                room.refused(error)

        deadline = self._driver.now() + self._tunables.timeout
        self._ask_hub(message, room.joined, refused, deadline)

    def leave(self, room: Joining) -> None:
        """Leave a room."""
        if self.rooms.get(room.name) is room:
            del self.rooms[room.name]
            if self._connected:
                self._send_now({"type": "hub:leave", "room": room.name})
            else:
                self._left.add(room.name)

    # For the driver.

    def task(self) -> Task | None:
        """Take the attempt that has to be made now, if there is one."""
        task, self._task = self._task, None
        return task

    @property
    def has_task(self) -> bool:
        """True if an attempt has to be made."""
        return self._task is not None

    def due(self) -> float:
        """Return the time at which ``on_time`` has something to do."""
        due = min(self.retry_due, self._connect_due, self.requests.due())
        if self.state == "open":
            asked = self._asked
            due = min(
                due, self._token_due, self._heard_at + QUIET if asked is None else asked + PATIENCE
            )
            if self._queue:
                due = min(due, self._looked_at + LOOK_AGAIN)
        return due

    def on_time(self) -> None:
        """Run the due deadlines."""
        now = self._driver.now()
        self.requests.expire(now)
        if self._connect_due <= now:
            if self._connected:
                self.end("the server sent no hub:hello", PROTOCOL_ERROR)
            else:
                self._wait("the server does not answer")
        elif self.retry_due <= now:
            self._attempt()
        elif self.state == "open":
            if self._asked is not None and self._asked + PATIENCE <= now:
                self._dead()
            else:
                if self._token_due <= now:
                    self._token_due = math.inf
                    self._renew_token()
                if self._heard_at + QUIET <= now:
                    self._ask()
                self._flush()

    def begin(self, epoch: int) -> float | None:
        """Begin an attempt, once its token is there.

        :returns: the seconds that the attempt may take; ``None`` if its epoch is over.
        """
        if epoch != self.epoch or self.state != "connecting":
            return None
        self._started_at = self._driver.now()
        self._connect_due = self._started_at + CONNECT_TIMEOUT
        return CONNECT_TIMEOUT

    def on_connected(self, subprotocol: str | None, token: object) -> None:
        """Note that the handshake is complete."""
        self._connected = True
        self._heard_at = self._driver.now()
        if self._tunables.plain:
            self._opened()
            return
        if subprotocol != SUBPROTOCOL:
            text = f"the server does not speak {SUBPROTOCOL}: connect with plain=True"
            self.end(text, PROTOCOL_ERROR)
            return
        hello: dict[str, Any] = {"type": "hub:hello", "v": 1, "client": "python"}
        if token is not None:
            hello["token"] = token
        if self.session is not None:
            hello["resume"] = self.session
        if self._got is not None:
            hello["got"] = self._got
        self._send_now(hello)
        # Join directly after the hello, which saves a round trip.  With a session the client may
        # be in its rooms already, so wait for the answer.
        if self._got is None:
            for room in list(self.rooms.values()):
                self.join(room)

    def on_heard(self) -> None:
        """Note that bytes have come."""
        self._heard_at = self._driver.now()
        if self._tunables.plain:
            self._asked = None

    def on_data(self, data: str | bytes) -> None:
        """Take a message."""
        if self._tunables.plain:
            self._on_message(data, None)
            return
        message = _decoded(data)
        if self._spoken:
            if self._got is not None:
                self._got += 1
            self._on_message(data, message)
        elif isinstance(message, dict) and message.get("type") == "hub:hello":
            self._on_hello(message)
        else:
            # A first message of the server's program may overtake the hub's hello.
            self._early.append(data)
            if len(self._early) > MOST_EARLY or sum(map(len, self._early)) > MOST_EARLY_SIZE:
                self.end("the server sent no hub:hello", PROTOCOL_ERROR)

    def on_closed(self, code: int, reason: str) -> None:
        """Note that the connection has ended after its handshake."""
        self._note_steady()
        self._drop(None)
        text, retry = split_reason(reason)
        text = text or f"the connection ended ({code})"
        advice, bounds = advice_of(code), wait_range(code, retry, self._failures)
        if advice is Advice.REST:
            self._become("resting", text)
        elif bounds is None or (advice is Advice.TOKEN and not self._may_ask_again()):
            self.end(text)
        else:
            least, most = bounds
            self._wait(text, least + self._driver.random() * (most - least))

    def on_refused(self, status: int | None, text: str, retry_after: float) -> None:
        """Note that the server, or a proxy, has refused the handshake.

        :param status: the status of the answer; ``None`` if the answer is broken.
        """
        if status == _LOGIN:
            reason = "the server refuses: log in first"
            if self._may_ask_again():
                self._wait(reason, self._spread())
            else:
                self.end(reason)
        elif status is None:
            self.end(text)
        elif status in _LATER or status >= 500:
            after = min(retry_after, MOST_RETRY)
            self._wait(f"the server cannot be reached ({status})", after + self._backoff())
        elif status >= 400:
            self.end(f"the server refuses ({status})")
        else:
            self.end(f"there is no WebSocket at this address: {text}")

    def on_unreachable(self, reason: str) -> None:
        """Note that no connection could be made."""
        self._wait(reason)

    def on_no_token(self, token: Token) -> None:
        """Note that there is no token for the attempt."""
        if token.ends:
            self.end(token.reason)
        else:
            self._wait(token.reason)

    def on_renewal(self, token: Token) -> None:
        """Take the token that replaces an expiring token."""
        if token.ends:
            self.end(token.reason, NORMAL)
        elif token.value is None:
            # Try again until the server closes the connection.
            wait = TOKEN_RETRY * (0.5 + self._driver.random() / 2)
            self._token_due = self._driver.now() + wait
            self._driver.wake()
        else:
            self._ask_hub({"type": "hub:token", "token": token.value}, self._expires)

    # Attempts.

    def _attempt(self) -> None:
        self._drop(None)
        self._task = Task(self.epoch, self._refused_token)
        self._become("connecting", self.reason)
        self._driver.wake()

    def _drop(self, code: int | None) -> None:
        """End the present epoch, with its connection and its deadlines.

        :param code: the code of the Close; ``None`` cuts the connection.
        """
        self.epoch += 1
        self._task = None
        self._connect_due = self.retry_due = self._token_due = math.inf
        self._asked = None
        self._connected = self._spoken = False
        self._early.clear()
        self._driver.hang_up(code)
        self.requests.lose_sent()
        for room in self.rooms.values():
            room.lost()

    def _wait(self, reason: str, delay: float | None = None) -> None:
        """Wait before the next attempt: ``delay`` seconds, or as long as the backoff says."""
        wait = self._backoff() if delay is None else delay
        self._drop(None)
        self._failures += 1
        self.retry_due = self._driver.now() + wait
        self._become("waiting", reason)
        self._driver.wake()

    def _backoff(self) -> float:
        return self._driver.random() * backoff(self._failures)

    def _spread(self) -> float:
        return self._driver.random() * spread(self._failures)

    def end(self, reason: str, code: int | None = None) -> None:
        """End the link, because another attempt would fail in the same way."""
        self._drop(code)
        self._forget(reason)
        self._become("ended", reason)

    def _may_ask_again(self) -> bool:
        """Note that the token was refused; return False if the token function cannot help."""
        if self._refused_token or not self._tunables.can_renew:
            return False
        self._refused_token = True
        return True

    def _note_steady(self) -> None:
        if self.state == "open" and self._driver.now() - self._opened_at >= STEADY:
            self._failures = 0
            self._refused_token = False

    def _dead(self) -> None:
        self._note_steady()
        self._wait("the line is dead", self._spread())

    def _forget(self, reason: str) -> None:
        self._queue.clear()
        self.requests.lose_all(reason)

    def _become(self, state: State, reason: str) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        self._emit("state", self)

    # Messages.

    def _on_hello(self, message: Mapping[str, Any]) -> None:
        if "error" in message:
            self.end(f"the server refuses: {message['error']}", PROTOCOL_ERROR)
            return
        self._spoken = True
        session = message.get("session")
        self.session = session if isinstance(session, str) else None
        asked = self._got is not None
        number = message.get("at")
        self._got = number if type(number) is int and 0 <= number < MOST_NUMBER else None
        number = message.get("id")
        self.id = number if isinstance(number, (int, str)) else None
        self.clock.forget()
        self.clock.take(message.get("now"), self._started_at, self._driver.now())
        self._expires(message)
        early, epoch = list(self._early), self.epoch
        self._opened(partial(self._come_back, message) if asked else self._left.clear)
        for data in early:
            if epoch == self.epoch:
                self.on_data(data)

    def _come_back(self, message: Mapping[str, Any]) -> None:
        """Go on with the session, or join the rooms anew if it has ended."""
        resumed, lost = message.get("resumed") is True, message.get("lost")
        count = max(0, lost) if type(lost) is int else 0
        if resumed and count:
            self._emit("gap", count)
        for room in list(self.rooms.values()):
            if resumed:
                room.resume(count)
            self.join(room)
        if resumed:
            for name in self._left:
                self._send_now({"type": "hub:leave", "room": name})
        self._left.clear()

    def _opened(self, then: Callable[[], object] = lambda: None) -> None:
        self._connect_due = math.inf
        self._opened_at = self._driver.now()
        self._become("open", "")
        self._emit("open")
        then()
        self._flush()

    def _flush(self) -> None:
        self._looked_at = self._driver.now()
        while self.state == "open" and self._queue and self._driver.buffered <= BUFFERED:
            entry = self._queue.take(self._driver.now())
            if entry is None:
                break
            self._driver.send(entry.data)
            if entry.request is not None:
                self.requests.note_sent(entry.request)

    def _ask(self) -> None:
        """Ask the server for a sign of life, unless a question has no answer yet."""
        if self._asked is not None:
            return
        asked = self._asked = self._driver.now()
        if self._tunables.plain:
            self._driver.ping()
        else:
            self._ask_hub({"type": "hub:time"}, partial(self._on_time_told, asked))
        self._driver.wake()

    def _ask_hub(
        self,
        message: Mapping[str, Any],
        resolve: Callable[[Any], object],
        reject: Callable[[HubThreadError], object] = _ignore,
        deadline: float = math.inf,
    ) -> None:
        """Send a request to the hub itself, such as ``hub:join``."""
        number = self.requests.open(resolve, reject, deadline)
        self.requests.note_sent(number)
        self._send_now({**message, "id": number})
        self._driver.wake()

    def _expires(self, message: Mapping[str, Any]) -> None:
        """Note the time at which the token is to be renewed."""
        ttl = message.get("token_ttl")
        known = isinstance(ttl, (int, float)) and 0 < ttl < MOST_CLOCK
        if ttl is None or not known or not self._tunables.can_renew:
            self._token_due = math.inf
        else:
            # A random time, so that clients whose tokens expire together do not ask together.
            part = RENEWED[0] + self._driver.random() * (RENEWED[1] - RENEWED[0])
            self._token_due = self._driver.now() + max(ttl * part, LEAST_RENEWAL)
        self._driver.wake()

    def _on_time_told(self, asked: float, answer: Mapping[str, Any]) -> None:
        if self._asked == asked:
            self._asked = None
        self.clock.take(answer.get("now"), asked, self._driver.now())

    def _send_now(self, message: Mapping[str, Any]) -> None:
        self._driver.send(json.dumps(message, separators=(",", ":")))


def _decoded(data: str | bytes) -> Any:
    """Return the JSON value of a text message; ``None`` for anything else."""
    if isinstance(data, bytes):
        return None
    try:
        return load_json(data)
    except PayloadError:
        return None
