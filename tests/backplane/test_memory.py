"""A backplane in memory: what it adds to the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hubthread import MemoryBackplane
from hubthread.backplane.interfaces import Message
from hubthread.history import History, Position
from hubthread.protocol.frames import Frame
from tests.support.backplanes import Recorder


class Batches(Recorder):
    """A receiver that notes the size of each batch, and settles when the test says so."""

    settle: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        assert settle is not None
        self.settle = settle
        super().attached(position, settle)

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        self.sizes.append(len(messages))
        super().arrived(first, messages, number)


def test_pushes_wait_until_a_hub_settles_and_those_of_one_hub_arrive_together() -> None:
    backplane = MemoryBackplane()
    one, two = backplane.open("one"), backplane.open("two")
    here, there = Batches(), Batches()
    one.attach("room", History(size=2), here)
    two.attach("room", History(size=2), there)
    numbers = [
        link.publish("room", Message(Frame(text, 1), None))
        for link, text in ((one, "a"), (one, "b"), (two, "c"), (one, "d"), (one, "e"))
    ]

    assert numbers == [1, 2, 1, 3, 4]
    assert here.texts() == there.texts() == []
    there.settle()
    here.settle()
    assert here.texts() == there.texts() == [*"abcde"]
    assert here.sizes == there.sizes == [2, 1, 2]
    assert [number for _, _, number in here.events.now()] == [None, 1, 2, None, 3, 4]
    assert one.publish("room", Message(Frame("f", 1), None)) == 5


def test_detach_lets_what_was_published_before_arrive_everywhere() -> None:
    backplane = MemoryBackplane()
    one, two = backplane.open("one"), backplane.open("two")
    here, there = Batches(), Batches()
    one.attach("room", None, here)
    two.attach("room", None, there)
    one.publish("room", Message(Frame("a", 1), None))
    one.detach("room")

    assert here.texts() == there.texts() == ["a"]
