"""The calls of a hub that reach other hubs: messages to users anywhere, and questions to hubs.

They go through the backplane as letters.  A letter to a user goes to each hub that has clients of
the user, including this hub.  So all clients of a user get the messages of a thread in one order.

Layer: hub.  Threads: every method may be called on any thread.  Letters arrive on a thread of the
backplane, or on the thread of the hub that sends.  The functions of ``HubSetting.calls`` run on
worker threads.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from hubthread.backplane.interfaces import Message
from hubthread.backplane.letters import (
    decode_letter,
    encode_letter,
    node_box,
    owner_box,
    user_box,
)
from hubthread.backplane.redis.wire import pack, unpack
from hubthread.checks import check_kind, check_number, checked
from hubthread.concurrency.calls import wait_for
from hubthread.core.core import Core
from hubthread.errors import (
    BackplaneDown,
    CallFailed,
    CallTimeout,
    Closed,
    HubClosed,
    NodeGone,
    QueueFull,
    UsageError,
    WrongValue,
)
from hubthread.matcher.compile import marshal_json
from hubthread.net.tick_batch import refuse_in_tick
from hubthread.nodes import Address, Node, Target
from hubthread.room_option import check_room_name
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.ticking.owned import TakeCall
from hubthread.types import ClientID, Key, check_key

__all__ = ["Callee", "Letters"]

Callee: TypeAlias = "Node | str | Hotline[Any, Any]"
"""The hub that runs a call: a ``Node`` or its id, or the owner of a room."""

AGAIN = 0.05
"""Seconds between two attempts to call a room that no hub owns."""

POST = 2.0
"""Seconds within which a call without an answer has to begin; later it does not run."""

MOST_CALLS = 64
"""Functions of ``HubSetting.calls`` that run at the same time."""

MOST_INNER = 64
"""Functions of the hub itself that run at the same time for other hubs; further ones wait."""

MOST_WAITING = 10_000
"""The most questions that wait for a function of the hub itself.  Each has a time-out."""

CLOSES = "the hub closes, and waits for no other hub"


class _Question:
    """A call that waits for its answer.  The lock of ``Letters`` guards it."""

    __slots__ = ("answer", "error", "over")

    def __init__(self) -> None:
        self.over = False
        self.answer: Any = None
        self.error: Exception | None = None


class Letters:
    """The messages and calls of one hub to others, and of others to it.

    :param core: the core of the hub.
    """

    def __init__(self, core: Core[Any, Any]) -> None:
        self._core = core
        self.inner: dict[str, Callable[[Any, Any], object]] = {}
        """The functions of the hub itself that other hubs run, beside ``HubSetting.calls``."""
        self._rooms: dict[str, TakeCall] = {}  # the rooms that this hub owns
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._questions: dict[int, _Question] = {}
        self._heard_users: set[str] = set()
        self._running = self._running_inner = 0
        self._waiting: deque[Callable[[], None]] = deque()  # functions of the hub itself
        self._closed = False

    def start(self) -> None:
        """Hear the letters to this hub from now on, because the hub has started."""
        if self._core.setting.backplane is not None:
            link = self._core.sharing.link()
            link.listen(node_box(link.node), self._take)

    def follow_user(self, name: str) -> None:
        """Hear the letters to a user if the user has clients here; otherwise stop hearing them."""
        if self._core.setting.backplane is None:
            return
        link = self._core.sharing.link()
        with self._lock:  # of two calls at once, the later one decides
            here = bool(self._core.registry.clients_of(name))
            if here and name not in self._heard_users:
                self._heard_users.add(name)
                link.listen(user_box(name), self._take)
            elif not here and name in self._heard_users:
                self._heard_users.discard(name)
                link.unlisten(user_box(name))

    # Sending.

    def tell(self, target: Target, data: str | bytes, key: Key | None) -> None:
        """Send a message; see ``Hub.tell``."""
        check_key(key)
        frame = self._core.make_frame(data)
        self._core.state.refuse_closing("sends no messages")
        self._start_early()
        head: dict[str, Any]
        if isinstance(target, Address):
            check_kind("target.node", target.node, str, "a string")
            check_kind("target.client", target.client, int, "an integer")
            node, head = target.node, {"client": target.client}
        elif isinstance(target, Node):
            node, head = target.id, {"all": True}
        else:
            check_kind("target", target, str, "the name of a user, an Address or a Node")
            node, head = None, {"user": target}
        letter = encode_letter(head, pack(Message(frame, key)))
        if self._core.setting.backplane is None:  # there are no other hubs
            if node in (None, self._core.sharing.node):
                self._take(letter)
            return
        box = user_box(head["user"]) if node is None else node_box(node)
        self._core.sharing.link().tell(box, letter, lambda reached: None)

    def cluster(self) -> list[Node]:
        """Return the hubs of the backplane; see ``Hub.cluster``."""
        found = []
        for node, age, told in self._core.sharing.link().nodes():
            name, state = str(told.get("name", "")), str(told.get("state", ""))
            clients, hotlines = int(told.get("clients", 0)), int(told.get("hotlines", 0))
            found.append(Node(node, name, state, clients, hotlines, age))
        return sorted(found, key=lambda node: node.id)

    def serve(self, room: str, take: TakeCall) -> None:
        """Hear the calls to a room that this hub owns."""
        self._rooms[room] = take
        self._core.sharing.link().listen(owner_box(room), self._take)

    def unserve(self, room: str) -> None:
        """Hear the calls to a room no longer."""
        self._rooms.pop(room, None)
        self._core.sharing.link().unlisten(owner_box(room))

    def post(self, room: str, name: str, payload: object) -> None:
        """Run a function in the owner of a room; see ``OwnedRoom.post``."""
        check_kind("name", name, str, "a string")
        body = _bytes(marshal_json(payload))
        self._core.state.refuse_closing("calls no other hub")
        self._start_early()
        letter = encode_letter({"post": name, "room": room}, body)
        self._core.sharing.link().tell(owner_box(room), letter, lambda reached: None, POST)

    def call(self, target: Callee, name: str, payload: object, timeout: float) -> Any:
        """Run a function of another hub; see ``Hub.call``."""
        check_kind("node", target, Node | str | Hotline, "a Node, the id of one, or a room")
        check_kind("name", name, str, "a string")
        check_number("timeout", timeout, 0)
        head: dict[str, Any] = {"name": name, "within": timeout}
        tries = 1
        if isinstance(target, Hotline):
            check_room_name(target.name)
            head["room"] = target.name
            tries += int(timeout / AGAIN)  # another hub may be about to own the room
            box, who = owner_box(target.name), f"the owner of room {target.name!r}"
            gone = f"no hub owns room {target.name!r} at the moment: try again later"
        else:
            node = target.id if isinstance(target, Node) else target
            box, who = node_box(node), f"hub {node!r}"
            gone = f"{who} is gone: it hears no calls"
        self._core.state.refuse_closing("calls no other hub")
        if self._core.loop.is_here():
            raise UsageError("call waits for another hub: use it on a thread of the program")
        refuse_in_tick("call")
        self._start_early()
        if self._core.state.value == "new":
            raise UsageError("call waits for another hub: start this hub first")
        body = _bytes(marshal_json(payload))
        while True:
            try:
                return self._call(box, head, body, who, gone)
            except NodeGone:
                tries -= 1
                if not tries:
                    raise
                wait_for(self._changed, lambda: False, AGAIN)

    def _start_early(self) -> None:
        """Start a hub that starts with its first use: letters only go out after the start."""
        early = self._core.loop.on_early
        if early is not None:
            early()

    def _call(self, box: str, head: dict[str, Any], body: bytes, who: str, gone: str) -> Any:
        """Send a question to a box, and wait for its answer.

        :param who: the name of the hub, for the text of ``CallTimeout``.
        :param gone: the text of ``NodeGone``, if no hub hears the box.
        """
        name, timeout = head["name"], head["within"]
        question, number = _Question(), next(self._numbers)
        with self._lock:
            if self._closed:
                raise HubClosed(CLOSES)
            self._questions[number] = question

        def sent(reached: int | None) -> None:
            if reached is None:
                why = f"the call of {name!r} may not have been sent: the backplane is away"
                self._answer(number, error=BackplaneDown(why))
            elif not reached:
                self._answer(number, error=NodeGone(gone))

        head |= {"ask": number, "from": self._core.sharing.node}
        try:
            link = self._core.sharing.link()
            if self._core.setting.backplane is None:  # this hub is the only one
                link.listen(node_box(link.node), self._take)
            link.tell(box, encode_letter(head, body), sent, timeout)
            if not wait_for(self._changed, lambda: question.over, timeout):
                raise CallTimeout(f"{who} has not answered {name!r} within {timeout:g} s")
        finally:
            with self._lock:
                self._questions.pop(number, None)
        if question.error is not None:
            raise question.error
        return question.answer

    def _answer(self, number: int, answer: Any = None, error: Exception | None = None) -> None:
        with self._lock:
            question = self._questions.pop(number, None)
            if question is not None:
                question.over, question.answer, question.error = True, answer, error
                self._changed.notify_all()

    def close(self) -> None:
        """End all waiting calls, and refuse new ones, because the hub closes."""
        with self._lock:
            self._closed = True
            waiting = list(self._questions)
        for number in waiting:
            self._answer(number, error=HubClosed(CLOSES))

    # Hearing.

    def _take(self, letter: bytes) -> None:
        """Take a letter; return at once, and never raise."""
        try:
            found = decode_letter(letter)
            if found is None:
                text = "ignored a letter of another version of hubthread"
                self._core.incidents.log_limited("letter", logging.WARNING, text)
            elif "room" in found[0]:
                self._take_room_call(*found)
            elif "ask" in found[0]:
                self._take_question(*found)
            elif "reply" in found[0]:
                self._take_reply(*found)
            else:
                self._take_message(*found)
        except Closed:
            pass
        except QueueFull as full:
            text = "dropped a letter: %s"
            self._core.incidents.log_limited("full for a letter", logging.WARNING, text, full)
        except Exception as error:  # noqa: BLE001 - logged
            self._core.incidents.log_exception(error, "%r: cannot read a letter", self._core.hub)

    def _take_message(self, head: dict[str, Any], body: bytes) -> None:
        registry = self._core.registry
        (message,) = unpack(body)
        if "all" in head:
            registry.everyone.push(message.frame, message.key, None)
            return
        if "user" in head:
            clients = registry.clients_of(head["user"])
        else:
            client = registry.client(ClientID(head["client"]))
            clients = [] if client is None else [client]
        for each in clients:
            each.ws_conn.send(message.frame, message.key)

    def _take_room_call(self, head: dict[str, Any], body: bytes) -> None:
        take = self._rooms.get(head["room"])
        if take is None:
            return  # given up just now: the next owner hears the letter, too
        reply = partial(self._reply, head) if "ask" in head else None
        name = head["name"] if reply is not None else head["post"]
        try:
            take(name, body, head.get("within", POST), reply)
        except QueueFull as full:
            if reply is None:
                raise
            reply(b"", f"{full}")

    def _take_question(self, head: dict[str, Any], body: bytes) -> None:
        now = self._core.clock.now
        until = now() + head["within"]

        def answer() -> None:
            if now() < until:  # otherwise the caller waits no more
                self._reply(head, *self._run(head["name"], body))

        if head["name"] in self.inner:
            self._run_inner(answer)
        else:
            self._run_call(head, answer)

    def _run_call(self, head: dict[str, Any], answer: Callable[[], None]) -> None:
        """Run a function of the program on a worker, or refuse it if too many run."""

        def run() -> None:
            try:
                answer()
            finally:
                with self._lock:
                    self._running -= 1

        with self._lock:
            busy = self._running >= MOST_CALLS
            self._running += not busy
        if busy:
            self._reply(head, b"", f"the hub runs {MOST_CALLS} calls already")
            return
        try:
            self._core.workers.submit(run)
        except BaseException:
            with self._lock:
                self._running -= 1
            raise

    def _run_inner(self, answer: Callable[[], None]) -> None:
        """Run a function of the hub itself on a worker, after those that wait already."""

        def run() -> None:
            try:
                while (work := self._next_inner()) is not None:
                    work()
            except BaseException:
                with self._lock:
                    self._running_inner -= 1
                raise

        with self._lock:
            if len(self._waiting) >= MOST_WAITING:
                raise QueueFull(f"{MOST_WAITING} questions of other hubs wait")
            self._waiting.append(answer)
            if self._running_inner >= MOST_INNER:
                return
            self._running_inner += 1
        try:
            self._core.workers.submit(run)
        except BaseException:
            with self._lock:
                self._running_inner -= 1
            raise

    def _next_inner(self) -> Callable[[], None] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._running_inner -= 1
            return None

    def _run(self, name: str, body: bytes) -> tuple[bytes, str | None]:
        """Call a function; return its answer as JSON and None, or nothing and the error's text."""
        function = self.inner.get(name) or self._core.setting.calls.get(name)
        if function is None:
            return b"", f"the hub has no function {name!r} in HubSetting.calls"
        try:
            return _bytes(marshal_json(checked(function(self._core.hub, json.loads(body))))), None
        except Exception as error:  # noqa: BLE001 - logged, and told
            self._core.incidents.log_exception(error, "the function %r of calls raised", name)
            return b"", f"{type(error).__name__}: {error}"

    def _reply(self, head: dict[str, Any], body: bytes, error: str | None) -> None:
        """Send the answer to a question, or the text of an error."""
        reply = {"reply": head["ask"]} if error is None else {"reply": head["ask"], "error": error}
        with suppress(Closed, BackplaneDown, QueueFull):  # then the caller's time runs out
            letter = encode_letter(reply, body)
            link = self._core.sharing.link()
            try:
                link.tell(node_box(head["from"]), letter, lambda reached: None, head["within"])
            except WrongValue as wrong:  # the answer is too long
                self._reply(head, b"", str(wrong))

    def _take_reply(self, head: dict[str, Any], body: bytes) -> None:
        if "error" in head:
            self._answer(head["reply"], error=CallFailed(head["error"]))
        else:
            self._answer(head["reply"], json.loads(body))


def _bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data
