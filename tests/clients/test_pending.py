"""Requests and answers with ids, from the client and from the server, and the ends of waits."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import (
    ClientClosed,
    DeadlockError,
    Empty,
    ExecTimeout,
    HandleAnyNotPtr,
    HotlineFrameOption,
    HubSetting,
    IntHeader,
    IOContext,
    JsonHeader,
    MatcherMap,
    PayloadError,
    PrefixHeader,
    QueueFull,
    SettingError,
    UsageError,
    WrongThread,
)
from hubthread.testing import VirtualHub
from tests.support import (
    TIMEOUT,
    Items,
    RawPeer,
    Serving,
    in_thread,
    listen,
    serving,
    tcp_peer,
    together,
)


@dataclass
class Choice:
    yes: bool


@dataclass
class Tagged:
    """The answer's header is one of its fields."""

    type: Literal["yes", "no"]


def matcher(**fields: Any) -> MatcherMap[Any, Any]:
    made = MatcherMap[Any, Any](JsonHeader(id_field="id", **fields))

    @made.handle("double")
    def double(ctx: IOContext, meta: Any, req: dict[str, Any]) -> dict[str, Any]:
        return {"twice": req["n"] * 2, "seen": sorted(req)}

    @made.handle("nothing")
    def nothing(ctx: IOContext, meta: Any, _: Empty) -> None:
        """Return nothing."""

    @made.handle("fail")
    def fail(ctx: IOContext, meta: Any) -> None:
        raise LookupError("tripped")

    return made


def read(peer: RawPeer) -> Any:
    return json.loads(peer.message())


def send(peer: RawPeer, **fields: Any) -> None:
    peer.send(json.dumps(fields))


# Requests of the client.


@given(number=st.integers() | st.text())
def test_dispatch_reply_carries_id_of_request(number: int | str) -> None:
    """A message without an id gets a reply without one."""
    made = matcher()
    text = json.dumps({"type": "double", "n": 4, "id": number})
    answer = made.dispatch(None, None, text)
    assert json.loads(answer or "") == {
        "type": "double", "reply": number, "twice": 8, "seen": ["n"],
    }  # fmt: skip
    plain = made.dispatch(None, None, '{"type": "double", "n": 4}')
    assert json.loads(plain or "") == {"type": "double", "twice": 8, "seen": ["n"]}


def test_dispatch_handler_without_result_answers_request() -> None:
    """The answer is the id alone.  A message without an id gets no answer."""
    with serving(receive_matcher=matcher()) as served:
        peer = served.peer()
        send(peer, type="nothing")
        send(peer, type="nothing", id=None)
        send(peer, type="nothing", id="q")
        assert read(peer) == {"type": "nothing", "reply": "q"}


def test_request_and_reply_with_body_field() -> None:
    with serving(receive_matcher=matcher(body="is", reply_field="re")) as served:
        peer, client = served.pair()
        send(peer, type="double", id=1, **{"is": {"n": 5}})
        assert read(peer) == {"type": "double", "re": 1, "is": {"twice": 10, "seen": ["n"]}}
        send(peer, type="nothing", id=2)
        assert read(peer) == {"type": "nothing", "re": 2, "is": None}
        asking = in_thread(lambda: client.request("pick", [1, 2], TIMEOUT))
        assert read(peer) == {"type": "pick", "id": 1, "is": [1, 2]}
        send(peer, re=1, **{"is": 2})
        assert asking() == 2


def test_dispatch_error_calls_hook_and_sends_no_answer() -> None:
    errors = Items[Exception]()
    with serving(
        receive_matcher=matcher(),
        receive_matcher_error=lambda ctx, meta, error: errors.add(error),
    ) as served:
        peer = served.peer()
        send(peer, type="fail", id=1)
        send(peer, type="unknown", id=2)
        send(peer, type="double", id=[3], n=1)
        send(peer, type="double", id=True, n=1)
        send(peer, reply=1.0)
        send(peer, type="double", id=4, n=1)
        assert read(peer)["reply"] == 4
        kinds = [type(error).__name__ for error in errors.wait(5)]
        assert kinds == ["LookupError", "HandleNotFind", *["PayloadError"] * 3]
        assert "the field 'id' must be text or an integer" in str(errors.now()[2])


def test_dispatch_reply_with_reserved_field_raises() -> None:
    made = matcher()
    made.add("clash", lambda ctx, meta, req: {"reply": 1})
    for text in ('{"type": "clash"}', '{"type": "clash", "id": 1}'):
        with pytest.raises(UsageError, match="has a field 'reply'"):
            made.dispatch(None, None, text)


def test_dispatch_without_id_field_passes_id_on() -> None:
    made = MatcherMap[Any, Any](JsonHeader())
    made.add("delete", lambda ctx, meta, req: {"deleted": req["id"], "reply": req["reply"]})
    answer = made.dispatch(None, None, '{"type": "delete", "id": 5, "reply": 6}')
    assert json.loads(answer or "") == {"type": "delete", "deleted": 5, "reply": 6}


# Requests of the server.


def test_request_returns_answer_as_type() -> None:
    """The answer is a decoded value, or of the type ``into``; it reaches no handler."""
    with serving(receive_matcher=matcher()) as served:
        peer, client = served.pair()
        asking = in_thread(lambda: client.request("confirm", {"text": "Sure?"}, TIMEOUT))
        assert read(peer) == {"type": "confirm", "id": 1, "text": "Sure?"}
        send(peer, type="whatever", reply=1, yes=True)
        assert asking() == {"yes": True}
        typed = in_thread(lambda: client.request("confirm", Choice(False), into=Choice))
        assert read(peer) == {"type": "confirm", "id": 2, "yes": False}
        send(peer, reply=2, yes=False)
        assert typed() == Choice(False)
        wrong = in_thread(lambda: client.request("confirm", None, into=Choice))
        assert read(peer) == {"type": "confirm", "id": 3}
        send(peer, reply=3, yes="maybe")
        with pytest.raises(PayloadError, match=r"\$\.yes: expected bool"):
            wrong()
        tagged = in_thread(lambda: client.request("confirm", None, into=Tagged))
        assert read(peer) == {"type": "confirm", "id": 4}
        send(peer, type="yes", reply=4)
        assert tagged() == Tagged("yes")
        assert served.logs.warnings() == []


def test_request_answers_in_any_order_find_callers() -> None:
    """Equal ids of the two directions are not mixed up."""
    with serving(receive_matcher=matcher()) as served:
        peer, client = served.pair()
        count = 20
        answers = Items[tuple[int, Any]]()

        def answer_all() -> None:
            questions = [read(peer) for _ in range(count)]
            assert len({each["id"] for each in questions}) == count
            for each in sorted(questions, key=lambda each: each["n"]):
                send(peer, type="double", id=each["id"], n=each["n"])  # a request with the same id
                send(peer, reply=each["id"], n=each["n"])

        answering = in_thread(answer_all)
        together(
            count,
            lambda n: answers.add((n, client.request("n", {"n": n}, TIMEOUT)["n"])),
        )
        answering()
        assert sorted(answers.now()) == [(n, n) for n in range(count)]
        replies = [read(peer) for _ in range(count)]
        assert sorted(each["twice"] for each in replies) == [2 * n for n in range(count)]


def test_request_uses_marshal_and_unmarshal_of_matcher() -> None:
    made = MatcherMap[Any, Any](
        JsonHeader(id_field="id"),
        marshal=lambda obj: json.dumps(obj, indent=1),
        unmarshal=lambda payload, into: into(**payload),
    )
    with serving(receive_matcher=made) as served:
        peer, client = served.pair()
        for number, good in ((1, True), (2, False)):
            asking = in_thread(lambda: client.request("confirm", {}, into=Choice))
            assert "\n" in str(peer.message())
            send(peer, reply=number, **({"yes": True} if good else {"no": 1}))
            if good:
                assert asking() == Choice(True)
            else:
                with pytest.raises(PayloadError, match="cannot be unmarshalled"):
                    asking()


def test_request_uses_header_format_of_program() -> None:

    class Lines:
        correlated = True

        def parse(self, data: Any) -> Any:
            return self.parse_correlated(data)[:2]

        def parse_correlated(self, data: Any) -> Any:
            sign, number, header, payload = data.split(" ", 3)
            question, answered = (int(number), None) if sign == "?" else (None, int(number))
            return header, payload, question, answered

        def join(self, header: Any, obj: Any, marshal: Any) -> str:
            raise AssertionError("each of these is a question or an answer")

        def join_question(self, header: Any, obj: Any, marshal: Any, question: Any) -> str:
            return f"? {question} {header} {marshal(obj)}"

        def join_answer(self, header: Any, obj: Any, marshal: Any, question: Any) -> str:
            return f"! {question} {header} {marshal(obj)}"

    made = MatcherMap[Any, str](Lines())
    made.add("double", lambda ctx, meta, req: req * 2)
    with serving(receive_matcher=made) as served:
        peer, client = served.pair()
        peer.send("? 9 double 21")
        assert peer.message() == "! 9 double 42"
        asking = in_thread(lambda: client.request("half", 42, into=list[int]))
        assert peer.message() == "? 1 half 42"
        peer.send("! 1 half [21]")
        assert asking() == [21]


def test_request_in_callback_of_another_client_is_answered() -> None:
    with serving(receive_matcher=matcher()) as served:
        (_, one), (peer, other) = served.pairs(2)
        asking = in_thread(lambda: one.exec_sync(lambda: other.request("q", {}, TIMEOUT)))
        send(peer, reply=read(peer)["id"], a=1)
        assert asking() == {"a": 1}


def test_request_to_raw_peer_is_answered() -> None:
    with serving(receive_matcher=matcher()) as served, tcp_peer(listen(served)) as script:
        raw = served.came()
        peer, client = served.pair()
        raw_asked, asked = (
            in_thread(lambda each=each: each.request("who", {}, TIMEOUT))  # type: ignore[misc]
            for each in (raw, client)
        )
        assert json.loads(script.line()) == {"type": "who", "id": 1}
        script.send(b'{"reply": 1, "is": "a script"}\n')
        send(peer, reply=read(peer)["id"], **{"is": "a browser"})
        assert (raw_asked(), asked()) == ({"is": "a script"}, {"is": "a browser"})
        script.send(b'{"type": "double", "id": 5, "n": 4}\n')
        assert json.loads(script.line())["reply"] == 5
        visited = served.hub.each_client(
            lambda client_id, ctx, meta: ctx.connection_type.name, timeout=TIMEOUT
        )
        assert visited.results == {
            raw.connection_id: "SOCKET", client.connection_id: "WEBSOCKET",
        }  # fmt: skip


# Ends of waits, and refusals.


@pytest.mark.parametrize("leave", ["close", "reset", "server"])
def test_request_client_leaves_raises_client_closed(leave: str) -> None:
    """Later requests raise at once."""
    with serving(receive_matcher=matcher()) as served:
        peer, client = served.pair()
        asking = [in_thread(lambda: client.request("q", {}, 1000)) for _ in range(3)]
        for _ in asking:
            read(peer)
        if leave == "close":
            peer.send_close()
        elif leave == "reset":
            peer.reset()
        else:
            client.close(1000)
            peer.close()
        for each in asking:
            with pytest.raises(ClientClosed, match="left before it answered"):
                each()
        with pytest.raises(ClientClosed, match="no answer can arrive"):
            client.request("q", {}, TIMEOUT)


def test_request_late_answer_is_logged_at_debug() -> None:
    """So are an unknown id and a second answer."""
    with serving(receive_matcher=matcher()) as served:
        peer, client = served.pair()
        with pytest.raises(ExecTimeout, match="client 1 gave no result within"):
            client.request("q", {}, 0.01)
        number = read(peer)["id"]
        for late in (number, 77, "x", 10**30):
            send(peer, reply=late)
        asking = in_thread(lambda: client.request("q", {}, TIMEOUT))
        after = read(peer)["id"]
        assert after != number
        peer.send(*(json.dumps({"reply": after, "n": n}) for n in (1, 2)))
        assert asking() == {"n": 1}
        send(peer, type="double", n=1, id=1)
        assert read(peer)["twice"] == 2
        debug = [
            each for each in served.logs.at_least(logging.DEBUG) if "no request waits" in each
        ]
        assert len(debug) == 5
        assert served.logs.warnings() == []


def test_request_over_bound_raises_queue_full() -> None:
    """Every end of a request makes room."""
    with serving(receive_matcher=matcher(), chan_queue_size=2) as served:
        peer, client = served.pair()
        asking = [in_thread(lambda: client.request("q", {}, TIMEOUT)) for _ in range(2)]
        numbers = [read(peer)["id"] for _ in asking]
        with pytest.raises(QueueFull, match="chan_queue_size"):
            client.request("q", {}, TIMEOUT)
        send(peer, reply=numbers[0])
        send(peer, type="double", n=1)
        assert read(peer)["twice"] == 2
        with pytest.raises(ExecTimeout):
            client.request("q", {}, 0.01)
        with pytest.raises(UsageError, match="cannot be JSON"):
            client.request("q", {"a": object()}, TIMEOUT)
        last = in_thread(lambda: client.request("q", {}, TIMEOUT))
        read(peer)
        send(peer, reply=read(peer)["id"])
        send(peer, reply=numbers[1])
        for each in (*asking, last):
            assert each() == {}


def test_request_where_answer_cannot_be_read_is_refused() -> None:
    """These places are the client's own callbacks, the hub thread and ticks."""
    refusals = Items[Any]()

    def receive(ctx: IOContext, meta: Any) -> bool:
        try:
            ctx.request("q", {}, TIMEOUT)
        except DeadlockError as error:
            refusals.add(error)
        return True

    with serving(receive_matcher=matcher(), on_receive_message=receive) as served:
        peer, client = served.pair()
        send(peer, type="double", n=1)
        assert "call request on another thread" in str(refusals.wait(1)[0])
        with pytest.raises(WrongThread, match="hub thread"):
            served.hub.exec_sync(lambda _: client.request("q", {}, TIMEOUT))
        frame = HotlineFrameOption[dict[str, Any]](dict).run(served.hub.hotline())
        with pytest.raises(WrongThread, match="tick"):
            frame.exec_sync(lambda frame, obj: client.request("q", {}, TIMEOUT))
        assert read(peer)["twice"] == 2
        client.close()
        assert peer.closed() == (1000, "")


@pytest.mark.parametrize("form", [JsonHeader(), PrefixHeader(), IntHeader(2)])
def test_request_format_without_ids_raises(form: Any) -> None:
    with serving(receive_matcher=MatcherMap[Any, Any](form)) as served:
        client = served.pair()[1]
        with pytest.raises(UsageError, match="id_field"):
            client.request("q", {}, TIMEOUT)


def test_request_without_matcher_or_timeout_raises() -> None:
    with serving() as served:
        client = served.pair()[1]
        with pytest.raises(UsageError, match="receive_matcher"):
            client.request("q", {}, TIMEOUT)
        for timeout in (0, -1, float("nan"), None):
            with pytest.raises(SettingError, match="timeout"):
                client.request("q", {}, timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("into", [bytes, complex, 5])
def test_request_wrong_into_raises_before_sending(into: Any) -> None:
    with serving(receive_matcher=matcher()) as served:
        peer, client = served.pair()
        with pytest.raises(HandleAnyNotPtr):
            client.request("q", {}, TIMEOUT, into=into)
        client.write_json({"said": "first"})
        assert read(peer) == {"said": "first"}


@pytest.mark.load
def test_request_every_wait_has_one_outcome() -> None:
    """Answers, time-outs and the end of the connection race."""
    with serving(receive_matcher=matcher()) as served:
        outcomes: Counter[str] = Counter()
        for _ in range(10):
            _one_round(served, outcomes)
        assert sum(outcomes.values()) == 10 * 8 * 10
        assert outcomes.keys() <= {"answer", "ExecTimeout", "ClientClosed"}
        assert outcomes["answer"]


def _one_round(served: Serving, outcomes: Counter[str]) -> None:
    peer, client = served.pair()
    lock = threading.Lock()

    def serve() -> None:
        for count in range(40):
            question = read(peer)
            if count % 4:
                send(peer, reply=question["id"], n=question["n"])
        peer.reset()

    def ask(thread: int) -> None:
        for step in range(10):
            name = outcome(lambda n: client.request("q", {"n": n}, 0.05)["n"], thread * 100 + step)
            with lock:
                outcomes[name] += 1

    serving_peer = in_thread(serve)
    together(8, ask)
    serving_peer()


def outcome(request: Callable[[int], Any], number: int) -> str:
    try:
        assert request(number) == number
    except (ExecTimeout, ClientClosed) as error:
        return type(error).__name__
    return "answer"


# Requests whose answer a function gets, in virtual time.


class Asking:
    """A virtual hub with one client, and what the functions of its requests have got."""

    def __init__(self, **fields: Any) -> None:
        self.got: list[Any] = []
        self.hub = VirtualHub(
            HubSetting[Any, Any](lambda: "meta", receive_matcher=matcher(), **fields)
        )
        self.hub.start()
        self.client = self.hub.connect()

    def ask(self, timeout: float = 10.0, **fields: Any) -> None:
        self.client.ctx.request("pick", {"of": 2}, timeout, then=self.then, **fields)

    def then(self, ctx: Any, meta: Any, answer: Any) -> None:
        assert (ctx, meta, ctx.is_here()) == (self.client.ctx, "meta", True)
        self.got.append(type(answer) if isinstance(answer, Exception) else answer)

    def answer(self, **fields: Any) -> None:
        asked = json.loads(self.client.messages()[-1])
        self.client.send_json({"reply": asked["id"], **fields})


def test_request_then_gets_answer_as_type() -> None:
    asking = Asking()
    asking.ask(into=Choice)
    asking.answer(yes=True)
    asking.ask(into=Choice)
    asking.answer(yes=3)
    asking.hub.advance(20)
    asking.hub.close()
    assert asking.got == [Choice(yes=True), PayloadError]
    assert asking.hub.errors == []


def test_request_then_gets_time_out_and_no_late_answer() -> None:
    asking = Asking()
    asking.ask(2)
    asking.hub.advance(1.9)
    assert asking.got == []
    asking.hub.advance(0.1)
    asking.answer(yes=True)
    asking.hub.close()
    assert asking.got == [ExecTimeout]


@pytest.mark.parametrize("leave", ["client", "hub"])
def test_request_then_hears_that_client_left_before_its_close_callback(leave: str) -> None:
    closed: list[Any] = []
    asking = Asking(on_connection_close=lambda ctx, meta: closed.append("closed"))
    asking.got = closed
    asking.ask()
    if leave == "client":
        asking.client.drop()
    asking.hub.close()
    assert asking.got == [ClientClosed, "closed"]


def test_request_then_works_on_every_thread() -> None:
    """In the client's own callback, on the hub thread and in a tick."""
    asking = Asking()
    room = HotlineFrameOption[Any](list).run(asking.hub.hotline())
    for run in (
        asking.client.ctx.exec_async,
        lambda work: asking.hub.exec_async(lambda _: work()),
        lambda work: room.exec_async(lambda *_: work()),
    ):
        run(asking.ask)
        asking.answer(yes=True)
    asking.hub.close()
    assert asking.got == [{"yes": True}] * 3


def test_request_then_that_raises_is_told_to_error_hook() -> None:
    errors: list[str] = []
    asking = Asking(receive_matcher_error=lambda ctx, meta, error: errors.append(str(error)))

    def fail(ctx: Any, meta: Any, answer: Any) -> None:
        raise LookupError(type(answer).__name__)

    for _ in range(2):
        asking.client.ctx.request("pick", {}, 1, then=fail)
    asking.answer(yes=True)
    asking.hub.advance(1)
    asking.hub.close()
    assert errors == ["dict", "ExecTimeout"]
