"""The Python client with the cases of ``hubthread.js``; tests/static/cases.test.mjs runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hubthread.client import Room
from tests.client.world import World

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())


class Player:
    """Plays the steps of one case."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.heard: list[Any] = []
        self.asked: list[bool] = []
        self.rooms: dict[str, Room] = {}
        fields: dict[str, Any] = {"plain": options.get("plain", False)}
        if "messages" in options:
            fields |= {"messages": options["messages"], "message_bytes": options["bytes"]}
        if options.get("token") == "function":
            fields["token"] = self._token
        else:
            fields["token"] = options.get("token")
        self.world = World(**fields)
        self.link = self.world.link
        self.link.on("open", lambda: self.heard.append(["open"]))
        if options.get("greets"):
            self.link.on("open", self._greet)
        if fields["plain"]:
            self.link.on("message", lambda data: self.heard.append(["message", data]))
        self.link.on("*", self._heard)
        self.link.connect()
        self.world.clock.settle()

    def _token(self, again: bool) -> str:
        self.asked.append(again)
        return "t"

    def _greet(self) -> None:
        self.heard.append(["greeted", self.link.send("greet", volatile=True)])

    def _heard(self, message: Any) -> None:
        self.heard.append([message["type"], message] if isinstance(message, dict) else [message])

    def play(self, step: dict[str, Any]) -> None:
        getattr(self, f"_{next(iter(step))}")(step)
        self.world.clock.settle()

    def _server(self, step: dict[str, Any]) -> None:
        server = self.world.server
        match step["server"]:
            case "open":
                server.open(step.get("subprotocol", "hubthread.1"))
            case "receive":
                server.receive(step.get("text", step.get("message")))
            case "end":
                server.end(step["code"], step["reason"])
            case "reply":
                asked = [each["id"] for each in server.messages() if "id" in each]
                server.receive({**step["message"], "reply": asked[-1]})

    def _pass(self, step: dict[str, Any]) -> None:
        self.world.clock.advance(step["pass"] / 1000)

    def _send(self, step: dict[str, Any]) -> None:
        header, fields, how = step["send"]
        if "ttl" in how:
            how["ttl"] /= 1000
        assert self.link.send(header, fields, **how) == step["became"]

    def _raw(self, step: dict[str, Any]) -> None:
        assert self.link.raw.send(step["raw"]) == step["became"]

    def _call(self, step: dict[str, Any]) -> None:
        name = {"retryNow": "retry_now"}.get(step["call"], step["call"])
        getattr(self.link, name)()

    def _room(self, step: dict[str, Any]) -> None:
        name = step["room"]
        known = name in self.rooms
        room = self.rooms[name] = self.link.room(name, replay=step.get("replay", 0))
        if not known:
            heard = self.heard
            room.on(
                "join", lambda recovered, count: heard.append([name, "join", recovered, count])
            )
            room.on("gap", lambda why: heard.append([name, "gap", why]))
            room.on("refused", lambda error: heard.append([name, "refused", str(error)]))
            room.on("*", lambda data: heard.append([name, data]))

    def _leave(self, step: dict[str, Any]) -> None:
        self.rooms[step["leave"]].leave()

    def _expect(self, step: dict[str, Any]) -> None:
        link, world = self.link, self.world
        for name, wanted in step["expect"].items():
            if name == "delay":
                delay = (link._machine.retry_due - world.clock.now()) * 1000
                assert wanted[0] - 1 <= delay <= wanted[1] + 1
            elif name == "reasonStarts":
                assert link.reason.startswith(wanted)
            else:
                find = getattr(self, f"_find_{name}", None)
                assert (getattr(link, name) if find is None else find()) == wanted

    def _find_connections(self) -> int:
        return len(self.world.servers)

    def _find_asked(self) -> list[bool]:
        return self.asked

    def _find_closed(self) -> int | None:
        return self.world.server.closed_with

    def _find_heard(self) -> list[Any]:
        heard = self.heard.copy()
        self.heard.clear()
        return heard

    def _find_sent(self) -> list[Any]:
        return [plainly(message) for message in self.world.server.messages()]

    def _find_sentRaw(self) -> list[Any]:  # noqa: N802 - the name in the cases
        return self.world.server.sent.copy()

    def _find_lastSent(self) -> Any:  # noqa: N802 - the name in the cases
        return self._find_sent()[-1]

    def _find_members(self) -> dict[str, Any]:
        return {name: room.members for name, room in self.rooms.items()}


def plainly(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message without what differs between the clients."""
    return {name: value for name, value in message.items() if name not in ("id", "client")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_link_does_as_the_case_says(case: dict[str, Any]) -> None:
    player = Player(case["options"])
    with player.world:
        for number, step in enumerate(case["steps"]):
            try:
                player.play(step)
            except AssertionError as error:
                raise AssertionError(f"step {number}, {step}") from error
