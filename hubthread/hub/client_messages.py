"""The hub's own messages with clients of the subprotocol ``hubthread.1``.

Layer: hub.  Threads: the thread that runs the client's callbacks.

They are JSON texts whose ``type`` begins with ``hub:``.  A request has an ``id``, and its answer
has the same value under ``reply``.  An answer with ``error`` says why nothing was done::

    → {"type":"hub:hello","v":1}
    ← {"type":"hub:hello","v":1,"id":17,"now":1764…}
    → {"type":"hub:join","id":1,"room":"table/7","epoch":"k3","at":1204}
    ← {"type":"hub:join","reply":1,"room":"table/7","epoch":"k3","at":1210,"recovered":true,…}
    ← {"room":"table/7","n":1205,"data":{…}}  …
    → {"type":"hub:leave","room":"table/7"}
    → {"type":"hub:time","id":9}
    ← {"type":"hub:time","reply":9,"now":1764…}
    → {"type":"hub:token","id":10,"token":…}
    ← {"type":"hub:token","reply":10,"token_ttl":290}

The answer to a join comes before the pushes of the room.  ``at`` is the position of the join.
A client that is in may join again; it stays in, and gets the same as a client that joins.
Without a position in the request the answer has no ``recovered``.  If ``recovered`` is false,
``why`` is ``"epoch"`` or ``"trimmed"``.  A room without a history has no ``epoch`` and no ``at``.

A room with presence adds its users, and then tells each change.  Each change has the next
version ``v``::

    ← {"type":"hub:join",…,"v":87,"members":{"ann":{"age":7}}}
    ← {"type":"hub:members","room":"table/7","v":88,"came":{"bob":null},"went":["ann"]}

With ``mode="count"`` both messages have ``present``, a number.  If a policy drops changes, a
message without a version, and with ``"why":"dropped"``, takes their place: the client joins again.
When a client may have missed pushes, it is told its position now.  ``why`` may also be
``"dropped"``, ``"local"`` (``RedisBackplane``) or ``"moved"`` (``session_moves``)::

    ← {"type":"hub:gap","room":"table/7","epoch":"m9","at":17,"why":"epoch"}

A room with ``frame.inputs`` takes inputs of its members, each for a tick.  It tells the numbers of
refused inputs.  With ``StateSync`` the state has the numbers of the inputs that ticks have taken::

    → {"type":"hub:input","room":"table/7","n":17,"tick":820,"data":{"dx":1}}
    ← {"type":"hub:input","room":"table/7","refused":[[18,"early"]]}

With ``HubSetting.check_token`` the ``hub:hello`` has a ``token``, and the answer has ``token_ttl``
if the token expires.  ``hub:token`` brings the next token in time: see ``clients.admission``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from hubthread.checks import checked
from hubthread.clients.client import Client
from hubthread.core.core import Core, Intercept
from hubthread.errors import HubThreadError
from hubthread.history import Position, Recovery
from hubthread.protocol.frames import Frame, MessageType
from hubthread.protocol.hub_messages import (
    VERSION,
    Refusal,
    check_hello,
    encode_message,
    load_message,
    reply_to,
)
from hubthread.rooms.hotline import Hotline

__all__ = ["ClientMessages"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)

MOST_REPLAY = 1000


class ClientMessages(Generic[Meta, Header]):
    """Answers the hub's own messages; see the module for them.

    :param core: the core of the hub.
    :param then: asked about every other message.
    """

    def __init__(self, core: Core[Meta, Header], then: Intercept) -> None:
        self._core = core
        self._then = then
        self._answers: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
            "hub:hello": self._hello,
            "hub:join": self._join,
            "hub:leave": self._leave,
            "hub:input": self._input,
            "hub:time": self._time,
            "hub:token": self._token,
        }

    def __call__(self, client: Client[Meta, Header], meta: Meta) -> bool:
        """Answer a message of the hub's own; return False if the message was one."""
        message = load_message(client.payload)
        if message is not None:
            self._take(client, message)
            return False
        return True if self._then is None else self._then(client, meta)

    def _take(self, client: Client[Meta, Header], message: dict[str, Any]) -> None:
        kind, number = message["type"], message.get("id")
        answer = self._answers.get(kind)
        try:
            if answer is None:
                raise Refusal(f"unknown message {kind!r:.50}")
            fields = answer(client, message)
        except Refusal as refusal:
            fields = {"error": str(refusal)}
        except HubThreadError as error:  # the room is closed or full, say
            fields = {"error": str(error)}
        if fields is not None and (number is not None or kind == "hub:hello"):
            client.write(encode_message({"type": kind, **reply_to(number), **fields}))

    def _hello(self, client: Client[Meta, Header], message: dict[str, Any]) -> dict[str, Any]:
        admission = client.admission
        check_hello(message, takes_token=admission is not None)
        ttl = {} if admission is None else admission.fields()
        return {"v": VERSION, "id": client.connection_id, "now": self._now(), **ttl}

    def _token(self, client: Client[Meta, Header], message: dict[str, Any]) -> Any:
        if client.admission is None:
            raise Refusal("token: this server takes none")
        return client.admission.renew(message)

    def _time(self, client: Client[Meta, Header], message: dict[str, Any]) -> dict[str, Any]:
        return {"now": self._now()}

    def _leave(self, client: Client[Meta, Header], message: dict[str, Any]) -> dict[str, Any]:
        room = self._core.registry.named(_name(message))
        if room is not None:
            room.hangup(client)
        return {}

    def _input(self, client: Client[Meta, Header], message: dict[str, Any]) -> dict[str, Any]:
        room = self._core.registry.named(_name(message))
        if room is None:
            raise Refusal("there is no such room")
        room._take_input(client, message)
        return {}

    def _join(self, client: Client[Meta, Header], message: dict[str, Any]) -> None:
        name = _name(message)
        since = _position(message)
        replay = message.get("replay", 0)
        if type(replay) is not int or not 0 <= replay <= MOST_REPLAY:
            raise Refusal(f"replay: expected an integer from 0 to {MOST_REPLAY}")
        room = self._allowed(client, name)
        head = {"type": "hub:join", **reply_to(message.get("id")), "room": name}

        def opening(found: Recovery | None) -> Frame:
            fields: dict[str, Any] = {}
            place = None if found is None else found.position
            recovered = found is not None and found.recovered
            if found is not None and place is not None:
                fields = {"epoch": place.epoch, "at": place.offset, "count": found.count}
            if since is not None:
                fields["recovered"] = recovered
                if not recovered:
                    known = place is not None and since.epoch == place.epoch
                    fields["why"] = "trimmed" if known else "epoch"
            text, present = encode_message(head | fields), room._presence_fields()
            if present is not None:
                text = f"{text[:-1]},{present}}}"
            return Frame(text, MessageType.TEXT)

        # A client that is in and joins again has lost count.
        room._recover(client, opening, since, replay, again=True)

    def _now(self) -> int:
        return int(self._core.clock.wall() * 1000)

    def _allowed(self, client: Client[Meta, Header], name: str) -> Hotline[Meta, Header]:
        """Return the room, if the program lets the client join it."""
        hook = self._core.setting.may_join
        if hook is None:
            raise Refusal("no room can be joined by its name")
        try:
            verdict: object = checked(hook(client, client.meta, name))
        except BaseException as error:  # noqa: BLE001 - logged; and the client is not let in
            self._core.incidents.log_exception(error, "may_join raised for %r", client)
            raise Refusal("the server failed to decide") from None
        if verdict is not True:
            raise Refusal(verdict if isinstance(verdict, str) else "not allowed")
        room: Hotline[Meta, Header] | None = self._core.registry.named(name)
        if room is None:
            raise Refusal("there is no such room")
        return room


def _name(message: dict[str, Any]) -> str:
    name = message.get("room")
    if not isinstance(name, str):
        raise Refusal("room: expected a text")
    return name


def _position(message: dict[str, Any]) -> Position | None:
    epoch, offset = message.get("epoch"), message.get("at")
    if epoch is None and offset is None:
        return None
    if not isinstance(epoch, str) or type(offset) is not int:
        raise Refusal("expected epoch, a text, and at, an integer")
    return Position(epoch, offset)
