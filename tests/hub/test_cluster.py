"""``hub.tell``, ``hub.call`` and ``hub.cluster`` over memory, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hubthread import (
    Address,
    BackplaneDown,
    CallFailed,
    CallTimeout,
    Hub,
    HubClosed,
    HubSetting,
    MemoryBackplane,
    NodeGone,
    QueueFull,
    SettingTypeError,
    UsageError,
    WrongThread,
    WrongType,
    WrongValue,
)
from hubthread.backplane.letters import encode_letter, node_box
from hubthread.hub import cluster
from hubthread.testing import FakeClock, VirtualHub
from tests.hub.test_users import user_of
from tests.support.waiting import TIMEOUT, Gate, Task

Pair = tuple[VirtualHub[Any, Any], VirtualHub[Any, Any]]


def add(hub: Any, payload: Any) -> Any:
    return {"name": hub.name, "sum": sum(payload)}


def fail(hub: Any, payload: Any) -> None:
    raise LookupError(f"no {payload}")


@pytest.fixture
def pair() -> Iterator[Pair]:
    clock, backplane = FakeClock(), MemoryBackplane()

    def hub(name: str) -> VirtualHub[Any, Any]:
        calls = {"add": add, "fail": fail, "object": lambda hub, payload: object()}
        setting = HubSetting[Any, Any](
            dict, hub_name=name, user=user_of, backplane=backplane, calls=calls
        )
        return VirtualHub(setting, clock)

    with hub("one") as one, hub("two") as two:
        yield one, two


def test_tell_reaches_all_clients_of_the_user_in_all_hubs(pair: Pair) -> None:
    one, two = pair
    clients = [one.connect("/ann"), two.connect("/ann"), two.connect("/ann")]
    others = [one.connect("/bob"), two.connect("/"), one.connect("/")]
    one.tell("ann", "hello")
    two.tell("ann", b"bytes", key="k")
    assert [client.messages() for client in clients] == [["hello", b"bytes"]] * 3
    clients[0].close()
    one.tell("ann", "again")
    assert [client.messages() for client in clients] == [[], ["again"], ["again"]]
    for client in clients[1:]:
        client.close()
    one.tell("ann", "nobody")
    back = one.connect("/ann")
    two.tell("ann", "back")
    assert back.messages() == ["back"]
    assert [other.messages() for other in others] == [[], [], []]


def test_tell_reaches_a_client_and_a_hub_by_address(pair: Pair) -> None:
    one, two = pair
    ann, bob = one.connect("/ann"), two.connect("/bob")
    address = bob.ctx.address
    assert Address(*address) == address != ann.ctx.address
    one.tell(address, "to bob")
    one.tell(Address(address.node, 77), "to nobody")
    one.tell(Address("gone", 1), "to nobody")
    (node,) = [node for node in one.cluster() if node.name == "two"]
    one.tell(node, "to all there")
    assert (ann.messages(), bob.messages()) == ([], ["to bob", "to all there"])


def test_cluster_has_all_hubs_until_they_close(pair: Pair) -> None:
    one, two = pair
    two.connect("/ann")
    two.hotline()
    found = {node.name: node for node in one.cluster()}
    assert [node.name for node in two.cluster()] == [node.name for node in one.cluster()]
    assert (found["one"].clients, found["two"].clients) == (0, 1)
    assert (found["two"].hotlines, found["two"].state, found["two"].age) == (1, "running", 0.0)
    two.drain()
    assert {node.name: node.state for node in one.cluster()}["two"] == "draining"
    two.close()
    assert [node.name for node in one.cluster()] == ["one"]
    with pytest.raises(HubClosed):
        two.tell("ann", "too late")
    with pytest.raises(HubClosed):
        two.call(found["one"], "add", [])


def test_call_returns_the_result_of_the_function(pair: Pair) -> None:
    one, two = pair
    for node in one.cluster():
        assert one.call(node, "add", [1, 2]) == {"name": node.name, "sum": 3}
    address = two.connect("/ann").ctx.address
    assert one.call(address.node, "add", [])["name"] == "two"


def test_call_that_fails_raises_what_the_other_hub_says(pair: Pair) -> None:
    one, two = pair
    (node,) = [node for node in one.cluster() if node.name == "two"]
    with pytest.raises(CallFailed, match="LookupError: no cake"):
        one.call(node, "fail", "cake")
    assert len(two.errors) == 1
    with pytest.raises(CallFailed, match="no function 'nothing'"):
        one.call(node, "nothing")
    with pytest.raises(CallFailed, match="object"):
        one.call(node, "object")
    with pytest.raises(NodeGone, match="'elsewhere' is gone"):
        one.call("elsewhere", "add")
    two.errors.clear()


@pytest.mark.parametrize("reached", [None, 1])
def test_call_without_an_answer_raises(pair: Pair, reached: int | None) -> None:
    one, _ = pair
    link: Any = one._core.sharing.link()
    link.tell = lambda box, letter, sent, within: sent(reached)
    expected = BackplaneDown if reached is None else CallTimeout
    with pytest.raises(expected):
        one.call("two", "add", [], timeout=0.5)
    del link.tell


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [(WrongValue("expected at most 9 bytes"), CallFailed), (QueueFull("full"), CallTimeout)],
)
def test_answer_that_the_backplane_does_not_take_fails_the_call_alone(
    pair: Pair, refusal: Exception, raised: type[Exception]
) -> None:
    one, two = pair
    (node,) = [node for node in one.cluster() if node.name == "two"]
    link: Any = two._core.sharing.link()
    tell = link.tell

    def refuse(box: str, letter: bytes, sent: Callable[[Any], object], within: float) -> None:
        if b'"sum"' in letter:
            raise refusal
        tell(box, letter, sent, within)

    link.tell = refuse
    with pytest.raises(raised, match="at most 9 bytes" if raised is CallFailed else "answered"):
        one.call(node, "add", [1], timeout=0.5)
    del link.tell
    assert two.errors == []
    assert one.call(node, "add", [1])["sum"] == 1


def test_questions_of_hubs_take_turns_and_count_for_no_bound_of_the_program(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MOST_CALLS", 1)
    monkeypatch.setattr(cluster, "MOST_INNER", 1)
    monkeypatch.setattr(cluster, "MOST_WAITING", 3)
    one, two = pair
    ran: list[Any] = []

    def ask_inner(number: int) -> None:
        head = {"ask": number, "from": own, "name": "hub:note", "within": 5.0}
        link.tell(node_box(there), encode_letter(head, b"%d" % number), lambda reached: None)

    link, own = one._core.sharing.link(), one._core.sharing.node
    there = two._core.sharing.node
    two._core.letters.inner["hub:note"] = lambda hub, number: ran.append(number)

    def ask_much(hub: Any, payload: Any) -> None:
        for number in range(5):
            ask_inner(number)

    two._core.letters.inner["hub:ask"] = ask_much
    ask_inner(7)
    assert one.call(there, "add", [1])["sum"] == 1
    one.settle()
    assert ran == [7]
    one.call(there, "hub:ask")  # it runs, so those that it asks wait: three of them
    one.settle()
    assert ran == [7, 0, 1, 2]


def test_call_that_waits_ends_when_the_hub_closes() -> None:
    backplane, gate = MemoryBackplane(), Gate()
    setting = HubSetting[Any, Any](dict, backplane=backplane, calls={"slow": gate})
    with Hub(setting) as other:
        with Hub(HubSetting[Any, Any](dict, backplane=backplane)) as hub:
            node = other._core.sharing.node
            task = Task(lambda: hub.call(node, "slow", timeout=3 * TIMEOUT))
            gate.reached()
        with pytest.raises(HubClosed, match="the hub closes, and waits for no other hub"):
            task.result()
        gate.open()


def test_call_on_the_hub_thread_and_in_a_tick_raises(pair: Pair) -> None:
    from hubthread import HotlineFrameOption

    one, _ = pair
    raised: list[type[BaseException]] = []

    def ask(*arguments: Any) -> None:
        try:
            one.call("two", "add")
        except (UsageError, WrongThread) as error:
            raised.append(type(error))

    one.exec_sync(ask)
    room = HotlineFrameOption[Any](dict, ask, hz=10).run(one.hotline())
    one.tick(room)
    room.close()
    assert raised == [UsageError, WrongThread]


def test_letters_that_are_wrong_are_logged_and_harm_nothing(pair: Pair) -> None:
    one, two = pair
    ann = two.connect("/ann")
    link = one._core.sharing.link()
    for letter in (
        b"",
        b"2{}\n",
        b"1[]\n",
        b"1nonsense\n",
        b'1{"user": "ann"}\nx',
        b'1{"ask":1}\n',
    ):
        link.tell("u:ann", letter, lambda reached: None)
    assert len(two.errors) == 2
    two.errors.clear()
    one.tell("ann", "well")
    assert ann.messages() == ["well"]


def test_wrong_arguments_raise(pair: Pair) -> None:
    one, _ = pair
    wrong: Any = 7
    calls: tuple[Callable[[], object], ...] = (
        lambda: one.tell(wrong, "x"),
        lambda: one.tell("ann", wrong),
        lambda: one.tell("ann", "x", key=[]),  # type: ignore[arg-type]
        lambda: one.call(wrong, "add"),
        lambda: one.call("two", wrong),
        lambda: one.call("two", "add", timeout="2"),  # type: ignore[arg-type]
        lambda: HubSetting(dict, calls={"add": wrong}),
        lambda: HubSetting(dict, calls=wrong),
    )
    for call in calls:
        with pytest.raises((WrongType, SettingTypeError, UsageError)):
            call()


def test_call_of_a_hub_that_has_not_started_is_refused() -> None:
    hub = Hub[Any, Any](HubSetting(dict, backplane=MemoryBackplane()))
    with pytest.raises(UsageError, match="start this hub first"):
        hub.call("two", "add")


def test_hub_without_backplane_is_a_cluster_of_one() -> None:
    with VirtualHub[Any, Any](HubSetting(dict, user=user_of, hub_name="one")) as hub:
        ann = hub.connect("/ann")
        hub.tell("ann", "1")
        hub.tell(ann.ctx.address, "2")
        (node,) = hub.cluster()
        hub.tell(node, "3")
        assert ann.messages() == ["1", "2", "3"]
        with pytest.raises(NodeGone):
            hub.call("two", "add")
