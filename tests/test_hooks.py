"""Every callable that a program hands over is checked, and none counts as run when it was not.

``GIVE`` has a row for each of them.  A test compares it with the fields and parameters of the
public classes, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import hubthread
import hubthread.integrations.flask
import hubthread.testing
from hubthread import (
    Context,
    HandshakeRejected,
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    LongPollingOption,
    MatcherMap,
    MessageType,
    OwnedOption,
    PingPongPlan,
    Presence,
    RateLimiter,
    Sessions,
    SharedState,
    StateSync,
    Upgrader,
    UsageError,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub
from hubthread.testing.wire import client_frame
from tests.support import ask, serving, status_of

# Warnings are errors here: a coroutine that nobody awaits and nobody closes fails its test.

AnyHub = VirtualHub[Any, Any]


class Scene:
    """A virtual hub with a client and a ticking room."""

    def __init__(self, **fields: Any) -> None:
        self.hub: AnyHub = VirtualHub(HubSetting[Any, Any](**{"meta_gen": dict} | fields))
        self.hub.start()

    @functools.cached_property
    def client(self) -> VirtualClient:
        return self.hub.connect()

    @functools.cached_property
    def room(self) -> Any:
        return HotlineFrameOption(dict).run(self.hub.hotline())


@contextlib.contextmanager
def scene(**fields: Any) -> Iterator[Scene]:
    made = Scene(**fields)
    yield made
    made.hub.close()


Give = Callable[[Scene, Any], object]


def _setting(name: str) -> Give:
    fields: dict[str, Any] = {"meta_gen": dict}
    return lambda scene, hook: HubSetting[Any, Any](**fields | {name: hook})


def _hotline(name: str) -> Give:
    return lambda scene, hook: HotlineOption(**{name: hook})


def _presence(name: str) -> Give:
    return lambda scene, hook: Presence(**{name: hook})


def _frame(name: str) -> Give:
    fields: dict[str, Any] = {"new_obj": dict}
    return lambda scene, hook: HotlineFrameOption(**fields | {name: hook})


def _owned(name: str) -> Give:
    fields: dict[str, Any] = {"new_obj": dict}
    return lambda scene, hook: OwnedOption(**fields | {name: hook})


def _matcher(name: str) -> Give:
    return lambda scene, hook: MatcherMap(**{name: hook})


def _shared_state(scene: Scene) -> SharedState[dict[str, int]]:
    return SharedState(scene.hub.hotline(), {}, type=dict[str, int])


GIVE: dict[str, Give] = {
    **{
        f"HubSetting.{name}": _setting(name)
        for name in (
            "around_callback",
            "check_token",
            "may_join",
            "on_backplane",
            "delayed_execution",
            "meta_gen",
            "on_connection_close",
            "on_connection_lost",
            "on_connection_resume",
            "on_connection_start",
            "on_handshake",
            "on_receive_message",
            "receive_matcher_error",
            "user",
        )
    },
    "HubSetting.calls": lambda scene, hook: HubSetting(dict, calls={"name": hook}),
    "Sessions.save": lambda scene, hook: Sessions(save=hook, load=lambda ctx, moved: {}),
    "Sessions.load": lambda scene, hook: Sessions(save=lambda ctx, meta: {}, load=hook),
    "Upgrader.check_origin": lambda scene, hook: Upgrader(check_origin=hook),
    "Upgrader.error": lambda scene, hook: Upgrader(error=hook),
    "Upgrader.headers": lambda scene, hook: Upgrader(headers=hook),
    "Upgrader.subprotocols": lambda scene, hook: Upgrader(subprotocols=hook),
    "PingPongPlan.ping_handler": lambda scene, hook: PingPongPlan(ping_handler=hook),
    "PingPongPlan.pong_handler": lambda scene, hook: PingPongPlan(pong_handler=hook),
    "WebsocketPeriod.read_buffer_preprocessing": lambda scene, hook: WebsocketPeriod(
        read_buffer_preprocessing=hook
    ),
    **{
        f"HotlineFrameOption.{name}": _frame(name)
        for name in (
            *("logic", "new_obj", "on_close", "on_overrun", "on_start"),
            *("on_join", "on_leave", "on_empty"),
        )
    },
    **{
        f"OwnedOption.{name}": _owned(name)
        for name in ("logic", "new_obj", "on_close", "on_orphan", "on_overrun", "on_start")
    },
    "OwnedOption.calls": lambda scene, hook: OwnedOption(dict, calls={"name": hook}),
    "OwnedOption.save": lambda scene, hook: OwnedOption(dict, save=hook, load=lambda saved: {}),
    "OwnedOption.load": lambda scene, hook: OwnedOption(dict, save=lambda obj: b"", load=hook),
    **{
        f"HotlineOption.{name}": _hotline(name)
        for name in ("on_join", "on_leave", "on_empty", "on_gap")
    },
    **{f"Presence.{name}": _presence(name) for name in ("info", "on_change", "user")},
    "SharedState.exec_async(work)": lambda scene, hook: _shared_state(scene).exec_async(hook),
    "SharedState.exec_sync(work)": lambda scene, hook: _shared_state(scene).exec_sync(hook),
    "StateSync.views": lambda scene, hook: StateSync(views={"players": hook}),
    "LongPollingOption.do": lambda scene, hook: LongPollingOption(hook, 1.0),
    "LongPollingOption.timeout_callback": lambda scene, hook: LongPollingOption(
        lambda hub, done: None, 1.0, timeout_callback=hook
    ),
    "MatcherMap.__init__(handlers)": lambda scene, hook: MatcherMap(handlers={"a": hook}),
    **{
        f"MatcherMap.__init__({name})": _matcher(name)
        for name in ("header_parsing", "marshal", "unmarshal")
    },
    "MatcherMap.add(handler)": lambda scene, hook: MatcherMap[Any, Any]().add("a", hook),
    "RateLimiter.__init__(clock)": lambda scene, hook: RateLimiter(1, 1, clock=hook),
    "Context.add_callback(callback)": lambda scene, hook: Context().add_callback(hook),
    "Hub.exec_async(work)": lambda scene, hook: scene.hub.exec_async(hook),
    "Hub.exec_sync(work)": lambda scene, hook: scene.hub.exec_sync(hook),
    "Hub.broadcast_with_filter(predicate)": lambda scene, hook: scene.hub.broadcast_with_filter(
        "text", hook
    ),
    "Client.exec_async(work)": lambda scene, hook: scene.client.ctx.exec_async(hook),
    "Client.request(then)": lambda scene, hook: scene.client.ctx.request("a", 1, then=hook),
    "Client.exec_sync(work)": lambda scene, hook: scene.client.ctx.exec_sync(hook),
    "EachClient.each_client(task)": lambda scene, hook: scene.hub.each_client(hook),
    "EachClient.context_iter_a_async_exec(task)": lambda scene, hook: (
        scene.hub.context_iter_a_async_exec(hook)
    ),
    "EachClient.context_iter_a_sync_exec(task)": lambda scene, hook: (
        scene.hub.context_iter_a_sync_exec(hook)
    ),
    "EachClient.context_iter_s_async_exec(task)": lambda scene, hook: (
        scene.hub.context_iter_s_async_exec(hook)
    ),
    "FrameControl.exec_async(work)": lambda scene, hook: scene.room.exec_async(hook),
    "FrameControl.exec_sync(work)": lambda scene, hook: scene.room.exec_sync(hook),
    "FrameControl.await_inputs(on_done)": lambda scene, hook: scene.room.await_inputs(
        [], 1, 0, hook
    ),
    "FrameControl.operation_timeout(on_timeout)": lambda scene, hook: scene.room.operation_timeout(
        1, hook
    ),
    "FrameControl.operation_ticker(on_timeout)": lambda scene, hook: scene.room.operation_ticker(
        1, hook, 0.1, lambda frame, obj: None
    ),
    "FrameControl.operation_ticker(on_tick)": lambda scene, hook: scene.room.operation_ticker(
        1, lambda frame, obj: None, 0.1, hook
    ),
    "BaseCountdown.operation(work)": lambda scene, hook: scene.room.operation_timeout(
        1, lambda frame, obj: None
    ).operation(hook),
    "VirtualClient.on_message(do)": lambda scene, hook: setattr(scene.client, "on_message", hook),
    "VirtualHub.connect(on_message)": lambda scene, hook: scene.hub.connect(on_message=hook),
}

EXEMPT = {
    "Client.start(welcome)": "the session gives it",
    "Hub.websocket_handler(start_response)": "the WSGI server's",
    "Hub.metrics_app(start_response)": "the WSGI server's",
    "Monitor.app(start_response)": "the WSGI server's",
    "Hub.serve(pages)": "a VirtualHub serves no pages: tested with a real hub below",
    "Client.enter_room(join)": "rooms call it",
    "Client.decide(question)": "the session calls it",
    "MemoryBackplane.open(now)": "the hub calls it",
    "RedisBackplane.open(now)": "the hub calls it",
    "SilentHotline.each_client(task)": "a silent hotline accepts every call and does nothing",
    "OwnedOption.on_join": "refused: the members are in several hubs",
    "OwnedOption.on_leave": "refused",
    "OwnedOption.on_empty": "refused",
    "_Matcher.add(handler)": "MatcherMap.add, of an overlay",
    "Hub.long_polling": "takes a LongPollingOption",
}

_OF_THE_LIBRARY = ("Base", "FakeClock.", "HandlePack.", "Iteration.")
"""Classes whose instances the library makes."""

_CALLABLE = re.compile(
    r"Callable|Then\b|ReadBufferPreprocessing|HeaderParsing|Marshal|Unmarshal|Handler\[|HandleFunc"
)


def _public_callables(module: ModuleType) -> Iterator[str]:
    """Yield each field and each parameter that takes a callable."""
    for name in module.__all__:
        public: Any = getattr(module, name)
        if not inspect.isclass(public) or getattr(public, "_is_protocol", False):
            continue
        made = dataclasses.is_dataclass(public)
        fields: Any = getattr(public, "__dataclass_fields__", {}).values()
        for field in fields:
            if _CALLABLE.search(str(field.type)):
                yield f"{name}.{field.name}"
        for member, value in inspect.getmembers(public):
            method = value.fset if isinstance(value, property) else value
            if not inspect.isfunction(method) or (
                member.startswith("_") and (made or member != "__init__")
            ):
                continue
            for parameter in inspect.signature(method).parameters.values():
                if _CALLABLE.search(str(parameter.annotation)):
                    yield f"{method.__qualname__}({parameter.name})"


def test_hooks_table_has_each_public_callable() -> None:
    modules = hubthread, hubthread.testing, hubthread.integrations.flask
    found = {name for module in modules for name in _public_callables(module)}
    users = {
        name
        for name in found
        if not name.startswith(_OF_THE_LIBRARY) and not name.endswith("(marshal)")
    } | {"BaseCountdown.operation(work)", "MatcherMap.__init__(marshal)"}
    assert users - EXEMPT.keys() == GIVE.keys()


async def _async(*args: Any) -> None:
    raise AssertionError("it was awaited")


async def _async_generator(*args: Any) -> Any:
    yield


def _generator(*args: Any) -> Any:
    yield


class _Object:
    async def __call__(self, *args: Any) -> None:
        raise AssertionError("it was awaited")

    async def method(self, *args: Any) -> None:
        raise AssertionError("it was awaited")


def _too_many(a: Any, b: Any, c: Any, d: Any, e: Any) -> None:
    raise AssertionError("it was called")


MISFITS: dict[str, Any] = {
    "async def": _async,
    "async generator": _async_generator,
    "generator": _generator,
    "partial of async def": functools.partial(functools.partial(_async), 1),
    "async method": _Object().method,
    "async object": _Object(),
    "too many parameters": _too_many,
    "no function": 5,
}


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS.keys())
@pytest.mark.parametrize("give", GIVE.values(), ids=GIVE.keys())
def test_hook_that_would_not_run_is_refused_where_it_is_given(give: Give, misfit: Any) -> None:
    with scene() as made, pytest.raises((UsageError, TypeError)) as refused:
        give(made, misfit)
    assert isinstance(refused.value, UsageError), refused.value


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS.keys())
def test_page_that_would_not_run_is_refused_where_it_is_given(misfit: Any) -> None:
    with hubthread.Hub[Any, Any](HubSetting(dict)) as hub, pytest.raises(UsageError):
        hub.serve(pages={"/": misfit})


def test_hook_misfit_error_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"\(request\).*async.*write a plain, blocking def"):
        HubSetting[Any, Any](dict, on_handshake=_async)
    with pytest.raises(UsageError, match=r"generator.*return instead of yield"):
        HubSetting[Any, Any](dict, on_handshake=_generator)
    with pytest.raises(UsageError, match=r"\(request\).*it takes other parameters"):
        HubSetting[Any, Any](dict, on_handshake=MISFITS["too many parameters"])


def test_hook_of_a_built_in_class_without_signature_is_accepted() -> None:
    built_in: Any = dict
    setting = HubSetting[Any, Any](built_in, on_handshake=built_in)
    assert setting.on_handshake is built_in


def test_hook_decorated_with_another_arity_is_accepted() -> None:
    """``functools.wraps`` shows the signature of the inner function, which is not called."""

    def inner(request: Any, database: Any) -> str:
        return "meta"

    @functools.wraps(inner)
    def outer(request: Any) -> str:
        return inner(request, None)

    assert HubSetting[Any, Any](dict, on_handshake=outer).on_handshake is outer


# Lambdas that return a coroutine: nothing shows before they are called.


def late(*args: Any) -> Any:
    """Return a coroutine, as a decorated ``async def`` may."""
    return _async()


def _refused(hub: AnyHub) -> list[str]:
    return [str(error) for error in hub.errors if isinstance(error, UsageError)]


@pytest.mark.parametrize(
    "name", ["meta_gen", "on_handshake", "check_origin", "headers", "subprotocols"]
)
def test_hook_of_the_handshake_that_returns_a_coroutine_refuses_with_500(name: str) -> None:
    fields: dict[str, Any] = {name: late}
    if name in ("check_origin", "headers", "subprotocols"):
        hook: dict[str, Any] = {name: late}
        upgrader = Upgrader(**hook)
        fields = {"websocket_period": WebsocketPeriod[Any](upgrader=upgrader)}
    with scene(**fields) as made:
        with pytest.raises(HandshakeRejected) as refusal:
            made.hub.connect()
        assert refusal.value.status == 500
        assert "coroutine" in _refused(made.hub)[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"on_receive_message": late},
        {"on_receive_message": late, "limits": hubthread.Limits(messages_per_second=10)},
        {"on_receive_message": RateLimiter(1, 1, clock=late)},
        {"websocket_period": WebsocketPeriod[Any](read_buffer_preprocessing=late)},
    ],
    ids=["interceptor", "behind a limit", "clock of a rate limiter", "preprocessing"],
)
def test_hook_before_the_matcher_that_returns_a_coroutine_stops_the_message(
    fields: dict[str, Any],
) -> None:
    handled: list[object] = []
    matcher = MatcherMap[Any, Any](handlers={"a": lambda ctx, meta: handled.append(1)})
    with scene(receive_matcher=matcher, **fields) as made:
        made.client.send_json({"type": "a"})
        assert handled == []
        assert len(_refused(made.hub)) == 1


def test_header_parser_that_returns_a_coroutine_stops_the_message() -> None:
    handled: list[object] = []
    matcher = MatcherMap[Any, Any](late, handlers={"a": lambda ctx, meta: handled.append(1)})
    with scene(receive_matcher=matcher) as made:
        made.client.send_json({"type": "a"})
        assert handled == []
        assert "coroutine" in str(made.hub.errors)


def test_marshal_that_returns_a_coroutine_is_refused() -> None:
    matcher = MatcherMap[Any, Any](marshal=late)
    with pytest.raises(UsageError, match="coroutine"):
        matcher.marshal({})


def test_broadcast_filter_that_returns_a_coroutine_leaves_the_client_out() -> None:
    with scene() as made:
        client = made.client
        made.hub.broadcast_with_filter("secret", late)
        made.hub.settle()
        assert client.messages() == []
        assert len(_refused(made.hub)) == 1


def test_handler_that_returns_a_coroutine_is_logged_and_replies_nothing() -> None:
    matcher = MatcherMap[Any, Any](handlers={"a": lambda ctx, meta: late()})
    with scene(receive_matcher=matcher) as made:
        made.client.send_json({"type": "a"})
        assert made.client.messages() == []
        assert len(_refused(made.hub)) == 1


RAISING: dict[str, Give] = {
    name: GIVE[name]
    for name in ("Hub.exec_sync(work)", "Client.exec_sync(work)", "FrameControl.exec_sync(work)")
} | {
    "HotlineFrameOption.new_obj": lambda scene, hook: HotlineFrameOption(hook).run(
        scene.hub.hotline()
    ),
    "meta of Hub.websocket_handler": lambda scene, hook: scene.hub.websocket_handler(
        {}, None, hook()
    ),
}


@pytest.mark.parametrize("give", RAISING.values(), ids=RAISING.keys())
def test_call_whose_work_returns_a_coroutine_raises(give: Give) -> None:
    with scene() as made, pytest.raises(UsageError, match="coroutine"):
        give(made, late)


def _play(scene: Scene, name: str) -> None:
    """Have the hook ``name`` called."""
    give = GIVE.get(name)
    hub = scene.hub
    if name.startswith("HotlineFrameOption."):
        field = name.rpartition(".")[2]
        fields: dict[str, Any] = {"new_obj": dict, "logic": lambda frame, obj: None, "hz": 10}
        option = HotlineFrameOption(**fields | {field: late})
        hotline = hub.hotline()
        hotline.answer(scene.client.ctx)
        room = option.run(hotline)
        hub.advance(0.1)
        room.close()
    elif name.startswith("HotlineOption."):
        assert give is not None
        plain: Any = give(scene, late)
        hotline = hub.hotline(plain)
        hotline.answer(scene.client.ctx)
        hotline.hangup(scene.client.ctx)
        hub.settle()
    elif name.startswith("LongPollingOption."):
        assert give is not None
        polling: Any = give(scene, late)
        hub.long_polling(polling)
        hub.advance(1.5)
    else:
        assert give is not None
        client = scene.client
        give(scene, late)
        hub.broadcast("a message for on_message")
        hub.advance(1.5)
        assert client.ctx is not None


IGNORED = (
    *(f"HotlineOption.{name}" for name in ("on_join", "on_leave", "on_empty")),
    *(f"HotlineFrameOption.{name}" for name in ("on_join", "on_leave", "on_empty")),
    "HotlineFrameOption.logic",
    "HotlineFrameOption.on_close",
    "HotlineFrameOption.on_start",
    "LongPollingOption.do",
    "LongPollingOption.timeout_callback",
    "Hub.exec_async(work)",
    "Client.exec_async(work)",
    "EachClient.each_client(task)",
    "FrameControl.exec_async(work)",
    "FrameControl.await_inputs(on_done)",
    "FrameControl.operation_timeout(on_timeout)",
    "FrameControl.operation_ticker(on_timeout)",
    "FrameControl.operation_ticker(on_tick)",
    "BaseCountdown.operation(work)",
)


@pytest.mark.parametrize("name", IGNORED)
def test_hook_whose_result_is_not_used_and_is_a_coroutine_is_logged(name: str) -> None:
    with scene() as made:
        _play(made, name)
    assert _refused(made.hub), made.hub.errors


@pytest.mark.parametrize("name", ["on_connection_start", "on_connection_close"])
def test_connection_hook_that_returns_a_coroutine_is_logged(name: str) -> None:
    with scene(**{name: late}) as made:
        client = made.client
    assert client.close_code == (1011 if name == "on_connection_start" else 1001)
    assert len(_refused(made.hub)) == 1


def test_other_hooks_that_return_a_coroutine_are_logged() -> None:
    """The ping handler, ``Upgrader.error``, ``delayed_execution``, the matcher's error hook."""
    period = WebsocketPeriod[Any](
        upgrader=Upgrader(error=late, check_origin=["https://example.org"]),
        ping_pong_plan=PingPongPlan(ping_handler=late),
    )
    with scene(
        delayed_execution=late,
        receive_matcher=MatcherMap[Any, Any](),
        receive_matcher_error=late,
        websocket_period=period,
    ) as made:
        made.client.send_wire(client_frame(MessageType.PING, b""))
        made.client.send_json({"type": "unknown"})
        with pytest.raises(HandshakeRejected):
            made.hub.connect(headers={"Origin": "https://elsewhere.example"})
    assert len(_refused(made.hub)) == 4, made.hub.errors


def test_context_callback_that_returns_a_coroutine_makes_cancel_raise() -> None:
    context = Context()
    context.add_callback(late)
    with pytest.raises(UsageError, match="coroutine"):
        context.cancel()
    with pytest.raises(UsageError, match="coroutine"):
        context.add_callback(late)


def test_page_that_returns_a_coroutine_is_answered_with_500() -> None:
    with serving(serve={"pages": {"/": late}}) as s:
        answer = ask(s.server, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert status_of(answer) == 500
        assert any("coroutine" in line for line in s.logs.at_least(logging.ERROR))
