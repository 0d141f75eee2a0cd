"""A stream of recent messages against a plain list."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from hubthread.backplane.interfaces import Message
from hubthread.backplane.stream import Stream
from hubthread.history import History, Position
from hubthread.protocol.frames import Frame

SIZES = st.integers(0, 40)
STEPS = st.lists(st.one_of(st.lists(SIZES, max_size=4), st.floats(0.5, 30.0)), max_size=40)


@example(steps=[[0], 20.0, [], 1.0], keep=History(1, 20.0, 50), start=0)  # none are no use
@given(
    steps=STEPS,
    keep=st.builds(History, st.integers(1, 8), st.just(20.0), st.integers(50, 300)),
    start=st.integers(0, 1000),
)
def test_stream_knows_the_newest_within_its_bounds(
    steps: list[list[int] | float], keep: History, start: int
) -> None:
    """A step is the sizes of messages, or the seconds until the next ones."""
    time = 0.0
    stream = Stream(Position("e", start), keep, lambda: time)
    model: list[tuple[int, Message]] = []
    top, used = start, 0.0
    for step in steps:
        if isinstance(step, float):
            time += step
            if time - used > keep.ttl:
                model.clear()
            continue
        messages = [Message(Frame(bytes(size), 2), None) for size in step]
        stream.extend(messages)
        for message in messages:
            top, used = top + 1, time
            model.append((top, message))
        assert stream.top == top
        while len(model) > keep.size or sum(len(m.frame.wire) for _, m in model) > keep.max_bytes:
            model.pop(0)

    assert stream.top == top
    floor = model[0][0] - 1 if model else top
    for offset in range(start, top + 3):
        expected = [message for place, message in model if place > offset]
        known = floor <= offset <= top
        assert stream.after(Position("e", offset)) == (expected if known else None)
        assert stream.after(Position("f", offset)) is None
    for count in range(len(model) + 2):
        newest = [message for _, message in model][len(model) - count if count else len(model) :]
        assert stream.last(count) == (newest if count <= len(model) else [m for _, m in model])


@given(
    sizes=st.lists(SIZES, max_size=12),
    keep=st.builds(History, st.integers(1, 8), st.just(20.0), st.integers(50, 300)),
    data=st.data(),
)
def test_stream_extended_back_is_as_if_it_had_begun_earlier(
    sizes: list[int], keep: History, data: st.DataObject
) -> None:
    messages = [Message(Frame(bytes(size), 2), None) for size in sizes]
    begin = data.draw(st.integers(0, len(messages)), "the messages before the stream")
    before = data.draw(st.integers(0, len(messages)), "the messages before those fetched")
    until = data.draw(st.integers(before, len(messages)), "the last that is fetched")
    whole = Stream(Position("e", before), keep, lambda: 0.0)
    whole.extend(messages[before:])
    late = Stream(Position("e", begin), keep, lambda: 0.0)
    late.extend(messages[begin:])
    expected = [late.after(Position("e", offset)) for offset in range(len(messages) + 2)]

    late.extend_back(Position("f", before), messages[before:until])
    assert [late.after(Position("e", at)) for at in range(len(messages) + 2)] == expected
    late.extend_back(Position("e", before), messages[before:until])
    if before <= begin <= until and len(expected[begin] or []) == len(messages) - begin:
        expected = [whole.after(Position("e", offset)) for offset in range(len(messages) + 2)]
    assert [late.after(Position("e", at)) for at in range(len(messages) + 2)] == expected
    late.extend([Message(Frame("next", 1), None)])
    assert late.top == len(messages) + 1


def test_stream_without_a_history_counts_only() -> None:
    stream = Stream(Position("e", 0), None, lambda: 0.0)
    stream.extend([Message(Frame("a", 1), None)] * 2)
    assert stream.top == 2
    assert stream.after(Position("e", 2)) == []
    assert stream.after(Position("e", 1)) is None
