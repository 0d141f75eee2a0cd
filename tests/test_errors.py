"""Wrong arguments: a wrong value is a ValueError, a wrong type a TypeError, both of our tree."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import IntEnum
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
    Context,
    DuplicateHandler,
    ExecTimeout,
    HandlerError,
    HandshakeRejected,
    History,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubSetting,
    HubThreadError,
    IncrementByte,
    IntHeader,
    JsonHeader,
    Limits,
    LongPollingOption,
    MatcherMap,
    MessageType,
    PayloadError,
    PingPongPlan,
    PrefixHeader,
    RateLimiter,
    Response,
    SettingError,
    SettingTypeError,
    SocketPeriod,
    Upgrader,
    UsageError,
    WebsocketPeriod,
    WrongType,
    WrongValue,
    bytes_i8,
    bytes_i64,
    i8_bytes,
    i16_bytes,
    i32_bytes,
    i64_bytes,
)
from hubthread.testing import VirtualHub

WRONG = object()
"""A value of a type that nothing takes."""


class Wide(IntEnum):
    FAR = 300


def nothing(*given: object) -> None: ...


SETTINGS: dict[type[Any], dict[str, Any]] = {
    HubSetting: {"meta_gen": dict},
    Limits: {},
    WebsocketPeriod: {},
    SocketPeriod: {},
    PingPongPlan: {},
    Upgrader: {},
    HotlineFrameOption: {"new_obj": list, "logic": nothing},
    LongPollingOption: {"do": nothing, "timeout": 1.0},
    HotlineOption: {},
}
"""The classes of settings, each with the arguments that it needs."""

FIELDS = [
    (kind, field.name)
    for kind in SETTINGS
    for field in fields(kind)
    if field.init and field.name != "check_origin"  # the hub checks it
]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_setting_wrong_type_is_setting_and_type_error(kind: type[Any], field: str) -> None:
    """Every field of every setting; the error names the field."""
    with pytest.raises(SettingError) as caught:
        kind(**{**SETTINGS[kind], field: WRONG})
    assert isinstance(caught.value, SettingTypeError)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    assert caught.value.field == field


Call = Callable[[VirtualHub[Any, Any]], object]


def frame_of(hub: VirtualHub[Any, Any]) -> Any:
    return HotlineFrameOption[Any](list, nothing, hz=1).run(hub.hotline())


def two_handlers(hub: object) -> None:
    matcher = MatcherMap[Any, str]()
    matcher.add("a", nothing)
    matcher.add("a", nothing)


VALUES: dict[str, Call] = {
    "i8_bytes": lambda hub: i8_bytes(128),
    "i16_bytes": lambda hub: i16_bytes(1 << 15),
    "i32_bytes": lambda hub: i32_bytes(1 << 31),
    "i64_bytes": lambda hub: i64_bytes(1 << 63),
    "bytes_i8": lambda hub: bytes_i8(b"12"),
    "bytes_i8 enum": lambda hub: bytes_i8(b"\1", Wide),
    "bytes_i64": lambda hub: bytes_i64(b""),
    "IncrementByte": lambda hub: IncrementByte(256),
    "IntHeader width": lambda hub: IntHeader(3),  # type: ignore[call-overload]
    "IntHeader enum": lambda hub: IntHeader(1, Wide),
    "PrefixHeader": lambda hub: PrefixHeader(""),
    "JsonHeader": lambda hub: JsonHeader(""),
    "MatcherMap.add": two_handlers,
    "RateLimiter rate": lambda hub: RateLimiter(0, 1),
    "RateLimiter burst": lambda hub: RateLimiter(1, 0),
    "HandshakeRejected": lambda hub: HandshakeRejected(200, "fine"),
    "Response status": lambda hub: Response(600),
    "Response body": lambda hub: Response(204, b"text"),
    "Response headers": lambda hub: Response(200, headers=(("X", "a\nb"),)),
    "marshal": lambda hub: hub.marshal(float("nan")),
    "write": lambda hub: hub.connect().ctx.write("\ud800"),
    "write_message_type": lambda hub: hub.connect().ctx.write_message_type(3, "text"),  # type: ignore[arg-type]
    "wait_write_consumed": lambda hub: hub.connect().ctx.wait_write_consumed(5),
    "close code": lambda hub: hub.connect().ctx.close(1006),
    "request timeout": lambda hub: hub.connect().ctx.request("a", 1, 0),
    "broadcast": lambda hub: hub.broadcast("\ud800"),
    "push": lambda hub: hub.hotline().push("\ud800"),
    "operation_timeout": lambda hub: frame_of(hub).operation_timeout(0, nothing),
    "operation_ticker": lambda hub: frame_of(hub).operation_ticker(1, nothing, 0, nothing),
    "await_inputs": lambda hub: frame_of(hub).await_inputs([], 0, None),
    "HubSetting.context": lambda hub: HubSetting[Any, Any](dict, context=ended()),
}


def ended() -> Context:
    context = Context()
    context.cancel("over")
    return context


def foreign_check() -> HubSetting[Any, Any]:
    upgrader = Upgrader(check_origin=WRONG)  # type: ignore[arg-type]
    return HubSetting(dict, websocket_period=WebsocketPeriod(upgrader=upgrader))


TYPES: dict[str, Call] = {
    "i8_bytes": lambda hub: i8_bytes("1"),  # type: ignore[arg-type]
    "i64_bytes": lambda hub: i64_bytes(1.0),  # type: ignore[arg-type]
    "bytes_i8": lambda hub: bytes_i8(1),  # type: ignore[call-overload]
    "IncrementByte": lambda hub: IncrementByte("0"),  # type: ignore[arg-type]
    "IntHeader width": lambda hub: IntHeader("2"),  # type: ignore[call-overload]
    "IntHeader enum": lambda hub: IntHeader(2, int),
    "PrefixHeader": lambda hub: PrefixHeader(1),  # type: ignore[arg-type]
    "JsonHeader": lambda hub: JsonHeader(b"type"),  # type: ignore[arg-type]
    "MatcherMap": lambda hub: MatcherMap(marshal=WRONG),  # type: ignore[arg-type]
    "MatcherMap class": lambda hub: MatcherMap(JsonHeader),  # type: ignore[arg-type]
    "MatcherMap.add handler": lambda hub: MatcherMap[Any, str]().add("a", WRONG),  # type: ignore[arg-type]
    "MatcherMap.add header": lambda hub: MatcherMap[Any, Any]().add([], nothing),
    "MatcherMap.unmarshal": lambda hub: MatcherMap[Any, Any]().unmarshal("1", complex),
    "RateLimiter rate": lambda hub: RateLimiter("1", 1),  # type: ignore[arg-type]
    "RateLimiter burst": lambda hub: RateLimiter(1, 1.5),  # type: ignore[arg-type]
    "RateLimiter clock": lambda hub: RateLimiter(1, 1, WRONG),  # type: ignore[arg-type]
    "HandshakeRejected": lambda hub: HandshakeRejected("400", "no"),  # type: ignore[arg-type]
    "Response status": lambda hub: Response("200"),  # type: ignore[arg-type]
    "Response body": lambda hub: Response(200, "text"),  # type: ignore[arg-type]
    "marshal": lambda hub: hub.marshal(WRONG),
    "byte_splicing": lambda hub: hub.byte_splicing(1, 1),  # type: ignore[arg-type]
    "write": lambda hub: hub.connect().ctx.write(1),  # type: ignore[arg-type]
    "write key": lambda hub: hub.connect().ctx.write("a", key=[]),  # type: ignore[arg-type]
    "write_message_type": lambda hub: hub.connect().ctx.write_message_type("1", "text"),  # type: ignore[arg-type]
    "close code": lambda hub: hub.connect().ctx.close("1000"),  # type: ignore[arg-type]
    "close reason": lambda hub: hub.connect().ctx.close(1000, 5),  # type: ignore[arg-type]
    "request timeout": lambda hub: hub.connect().ctx.request("a", 1, "1"),  # type: ignore[call-overload]
    "ctx.exec_async": lambda hub: hub.connect().ctx.exec_async(None),  # type: ignore[arg-type]
    "ctx.exec_sync": lambda hub: hub.connect().ctx.exec_sync(None),  # type: ignore[arg-type]
    "hub.exec_async": lambda hub: hub.exec_async(WRONG),  # type: ignore[arg-type]
    "hub.exec_sync": lambda hub: hub.exec_sync(WRONG),  # type: ignore[arg-type]
    "hub.hotline": lambda hub: hub.hotline(WRONG),  # type: ignore[arg-type]
    "hub.close timeout": lambda hub: hub.close("5"),  # type: ignore[arg-type]
    "Upgrader.check_origin": lambda hub: Hub(foreign_check()),
    "broadcast": lambda hub: hub.broadcast(1),  # type: ignore[arg-type]
    "broadcast key": lambda hub: hub.broadcast("a", key=[]),  # type: ignore[arg-type]
    "push": lambda hub: hub.hotline().push(1),  # type: ignore[arg-type]
    "push key": lambda hub: hub.hotline().push("a", key=[]),  # type: ignore[arg-type]
    "answer": lambda hub: hub.hotline().answer(WRONG),  # type: ignore[call-overload]
    "run": lambda hub: HotlineFrameOption[Any](list).run(hub.silent_hotline()),
    "operation_timeout": lambda hub: frame_of(hub).operation_timeout(1, None),
    "operation_ticker": lambda hub: frame_of(hub).operation_ticker(1, nothing, 1, None),
    "await_inputs": lambda hub: frame_of(hub).await_inputs([WRONG], 1, None),
    "await_inputs on_done": lambda hub: frame_of(hub).await_inputs([], 1, None, WRONG),
    "each_client": lambda hub: hub.each_client(WRONG),  # type: ignore[arg-type]
    "tick": lambda hub: hub.tick(WRONG),  # type: ignore[arg-type]
    "advance": lambda hub: hub.advance("1"),  # type: ignore[arg-type]
}


@pytest.fixture
def hub() -> Iterator[VirtualHub[Any, Any]]:
    matcher = MatcherMap[Any, str](JsonHeader(id_field="id"))
    with VirtualHub(HubSetting[Any, str](dict, receive_matcher=matcher)) as made:
        yield made


@pytest.mark.parametrize("name", VALUES)
def test_call_wrong_value_is_hubthread_and_value_error(
    hub: VirtualHub[Any, Any], name: str
) -> None:
    with pytest.raises(HubThreadError) as caught:
        VALUES[name](hub)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("name", TYPES)
def test_call_wrong_type_is_type_error(hub: VirtualHub[Any, Any], name: str) -> None:
    with pytest.raises(TypeError) as caught:
        TYPES[name](hub)
    assert isinstance(caught.value, UsageError)


OBJECTS: dict[str, Callable[[VirtualHub[Any, Any]], Any]] = {
    "hub": lambda hub: hub,
    "hotline": lambda hub: hub.hotline(),
    "shared room": lambda hub: hub.room("name", HotlineOption(shared=True, history=History(5))),
    "silent hotline": lambda hub: hub.silent_hotline(),
    "frame": frame_of,
    "gate": lambda hub: frame_of(hub).await_inputs([hub.connect().ctx], 1, None),
    "countdown": lambda hub: frame_of(hub).operation_timeout(1, nothing),
    "poll": lambda hub: hub.long_polling(LongPollingOption(nothing, 1.0)),
    "iteration": lambda hub: hub.each_client(nothing, wait_hub=False),
    "client": lambda hub: hub.connect().ctx,
    "virtual client": lambda hub: hub.connect(),
    "context": lambda hub: Context(),
    "matcher": lambda hub: MatcherMap[Any, Any](),
    "option": lambda hub: HotlineFrameOption[Any](list),
}
"""An object of each class whose methods programs call."""

INTERNAL = {"begin", "enter_room", "fire", "hand_out", "init", "is_over", "send_json"}
"""Methods that the library itself calls, and one of ``json``'s own errors."""

GIVEN: dict[str, Any] = {
    "code": 1000,
    "data": b"1",
    "deadline": None,
    "into": int,
    "message_type": MessageType.TEXT,
    "name": "name",
    "number": 0,
    "on_tick": nothing,
    "option": None,
    "prefix": "prefix",
    "protocol": ConnectionProtocols.TCP,
    "work": nothing,
    "seconds": 0.1,
}
"""Values for the other parameters."""


def methods(made: object) -> Iterator[tuple[str, list[inspect.Parameter]]]:
    """Yield the public methods of an object that have parameters."""
    for name in dir(made):
        kept = inspect.getattr_static(made, name)
        if name.startswith("_") or name in INTERNAL or isinstance(kept, property):
            continue
        method = getattr(made, name)
        if inspect.ismethod(method):
            parameters = inspect.signature(method).parameters.values()
            fixed = [
                each
                for each in parameters
                if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
            ]
            if fixed:
                yield name, fixed


@pytest.mark.parametrize("kind", OBJECTS)
def test_method_argument_of_a_wrong_type_is_taken_or_refused(kind: str) -> None:
    """Each parameter of each method: never an error from the middle of the library."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        found = list(methods(OBJECTS[kind](hub)))
    assert found, "no methods"
    for name, parameters in found:
        for wrong in parameters:
            with VirtualHub(HubSetting[Any, Any](dict)) as hub:
                given = {
                    each.name: GIVEN.get(each.name, nothing)
                    for each in parameters
                    if each.default is each.empty and each.kind is not each.POSITIONAL_ONLY
                }
                given[wrong.name] = WRONG
                with contextlib.suppress(HubThreadError, LookupError):
                    getattr(OBJECTS[kind](hub), name)(**given)


def test_wrong_type_is_also_a_wrong_value() -> None:
    """Programs that catch only ValueError for a wrong argument keep working."""
    assert issubclass(WrongType, WrongValue)
    assert issubclass(SettingTypeError, (SettingError, WrongType))
    assert issubclass(DuplicateHandler, HandlerError)
    assert issubclass(HandlerError, TypeError)
    assert issubclass(PayloadError, ValueError)
    assert not issubclass(PayloadError, UsageError)


def test_setting_error_has_the_field_and_begins_with_it() -> None:
    error = SettingTypeError("port", "expected an integer, got 'x'")
    assert (error.field, str(error)) == ("port", "port: expected an integer, got 'x'")


def test_exec_timeout_with_stack_shows_it() -> None:
    assert str(ExecTimeout("late")) == "late"
    assert (ExecTimeout("late", "stack").stack, str(ExecTimeout("late", "stack"))) == (
        "stack",
        "late\nstack",
    )


def test_handshake_rejected_keeps_status_reason_and_headers() -> None:
    error = HandshakeRejected(403, "no", [("X", "1")])  # type: ignore[arg-type]
    assert (error.status, error.reason, error.headers) == (403, "no", (("X", "1"),))
    assert str(error) == "403: no"
