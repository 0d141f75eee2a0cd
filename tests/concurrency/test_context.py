"""The cancellation tree: a cancel reaches everything below, and each callback runs once."""

from __future__ import annotations

import gc
import threading
import weakref
from time import monotonic

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hubthread.concurrency.context import Context
from tests.support import TIMEOUT, in_thread, together
from tests.support.examples import examples


class AnyTree(RuleBasedStateMachine):
    """Contexts grown, merged and cancelled at random, against sets of descendants."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts = [Context()]
        self.above: list[set[int]] = [{0}]
        """For each context: itself and all that it hangs on."""
        self.reasons: list[str | None] = [None]
        self.told: list[list[str]] = [[]]
        self.contexts[0].add_callback(self.told[0].append)

    def _add(self, context: Context, *parents: int) -> None:
        number = len(self.contexts)
        self.contexts.append(context)
        self.above.append({number}.union(*(self.above[parent] for parent in parents)))
        # A context made below a cancelled one is cancelled for the reason of the first ancestor.
        self.reasons.append(next(filter(None, (self.reasons[each] for each in parents)), None))
        self.told.append([])
        context.add_callback(self.told[-1].append)

    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        parent = data.draw(st.integers(0, len(self.contexts) - 1))
        self._add(Context(self.contexts[parent]), parent)

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        one = data.draw(st.integers(0, len(self.contexts) - 1))
        two = data.draw(st.integers(0, len(self.contexts) - 1))
        self._add(Context.merge(self.contexts[one], self.contexts[two]), one, two)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        which = data.draw(st.integers(0, len(self.contexts) - 1))
        reason = f"reason {which}"
        assert self.contexts[which].cancel(reason) == (self.reasons[which] is None)
        if self.reasons[which] is None:
            for number, above in enumerate(self.above):
                if which in above and self.reasons[number] is None:
                    self.reasons[number] = reason

    @invariant()
    def as_the_model_says(self) -> None:
        for number, context in enumerate(self.contexts):
            reason = self.reasons[number]
            assert context.reason == reason
            assert context.cancelled == context.wait(0) == (reason is not None)
            assert self.told[number] == ([] if reason is None else [reason])


TestAnyTree = AnyTree.TestCase
TestAnyTree.settings = settings(max_examples=examples(50), stateful_step_count=30)


def test_context_cancel_runs_all_callbacks_though_some_raise() -> None:
    root = Context()
    children = [Context(root) for _ in range(3)]
    told: list[str] = []

    def fail(_: str) -> None:
        raise ValueError("of a user")

    for name, context in [("root", root), *((f"child {n}", c) for n, c in enumerate(children))]:
        context.add_callback(fail)
        context.add_callback(lambda _, name=name: told.append(name))  # type: ignore[misc]
    with pytest.raises(ValueError, match="of a user"):
        root.cancel()
    assert sorted(told) == ["child 0", "child 1", "child 2", "root"]
    assert all(child.cancelled for child in children)


def test_context_cancel_runs_callbacks_of_children_first_in_order() -> None:
    root = Context()
    child = Context(root)
    told: list[str] = []
    for number in range(3):
        root.add_callback(lambda _, number=number: told.append(f"root {number}"))  # type: ignore[misc]
        child.add_callback(lambda _, number=number: told.append(f"child {number}"))  # type: ignore[misc]
    root.cancel()
    assert told == [f"{who} {number}" for who in ("child", "root") for number in range(3)]


def test_context_callback_may_call_every_method() -> None:
    """It runs under no lock: here, and in a thread that it waits for, all methods work."""
    root = Context()
    child = Context(root)
    seen: list[object] = []

    def use(reason: str) -> None:
        seen.extend([root.reason, child.reason, root.wait(), root.cancel("again"), repr(root)])
        root.add_callback(seen.append)
        seen.append(Context(root).cancelled)
        seen.append(Context.merge(Context(), child).reason)

    root.add_callback(lambda reason: in_thread(lambda: use(reason))())
    child.add_callback(use)
    in_thread(lambda: root.cancel("x"))()
    expected = ["x", "x", True, False, "<Context cancelled: x>", "x", True, "x"]
    assert seen == expected * 2


def test_context_callback_added_after_cancel_runs_at_once() -> None:
    root = Context()
    root.cancel("before")
    told: list[str] = []
    root.add_callback(told.append)
    assert told == ["before"]


def test_context_cancel_wakes_waiting_threads() -> None:
    """Threads that wait for the context, for a context below it or one merged with it."""
    root = Context()
    contexts = [root, Context(root), Context(Context(root)), Context.merge(Context(), root)]
    waiting = [in_thread(lambda each=each: each.wait(TIMEOUT)) for each in contexts * 3]  # type: ignore[misc]
    root.cancel()
    assert all(wait() for wait in waiting)


@pytest.mark.parametrize("timeout", [None, 1e300, float("inf")])
@pytest.mark.parametrize("deadline", [None, float("inf")])
def test_context_wait_with_infinite_timeout_ends_on_cancel(
    timeout: float | None, deadline: float | None
) -> None:
    context = Context(deadline=deadline)
    ended = in_thread(lambda: context.wait(timeout))
    context.cancel()
    assert ended() is True


def test_context_wait_timeout_returns_false() -> None:
    assert not Context().wait(0.001)
    assert repr(Context()) == "<Context open>"


@pytest.mark.parametrize("own", [0.0, -1.0, None])
def test_context_passed_deadline_cancels_without_callbacks(own: float | None) -> None:
    """It counts below the context too, and ends waits."""
    past = monotonic() - 1 if own is None else own
    context = Context(Context(deadline=monotonic() + 3600), deadline=past)
    told: list[str] = []
    context.add_callback(told.append)
    for each in (context, Context(context), Context.merge(Context(), context)):
        assert each.cancelled
        assert each.wait()
        assert each.reason == "deadline passed"
    assert not told
    assert not context.parent or not context.parent.cancelled


def test_context_deadline_ends_a_wait_of_a_child() -> None:
    deadline = monotonic() + 0.01
    waiting = in_thread(Context(Context(deadline=deadline)).wait)
    assert waiting()
    assert monotonic() >= deadline


def test_context_earlier_deadline_of_parent_or_merge_holds() -> None:
    early, late = Context(deadline=100.0), Context(deadline=200.0)
    assert Context(early, 200.0).deadline == Context(late, 100.0).deadline == 100.0
    assert Context(early).deadline == Context.merge(late, early).deadline == 100.0
    assert Context.merge(Context(), late).deadline == 200.0
    assert Context.merge(Context(), Context()).deadline is None


def test_context_merged_keeps_its_parents_alive() -> None:
    root, other = Context(), Context()
    first, second = Context.merge(Context(root), other), Context.merge(other, Context(root))
    gc.collect()
    root.cancel("root")
    assert first.reason == second.reason == "root"


def test_context_forgotten_child_is_freed() -> None:
    root = Context()
    gone = [weakref.ref(Context(root)) for _ in range(10)]
    gc.collect()
    assert not any(each() for each in gone)
    assert not root._children


def test_context_cancel_reaches_children_made_meanwhile() -> None:
    for _ in range(20):
        root = Context()
        kept: list[Context] = []

        def work(number: int, root: Context = root, kept: list[Context] = kept) -> None:
            if number == 0:
                root.cancel("end")
                return
            for count in range(30):
                child = Context(root)
                if count % 10 == 0:
                    kept.append(child)

        together(4, work)
        assert all(child.reason == "end" for child in kept)


def test_context_concurrent_cancels_run_callbacks_once() -> None:
    for _ in range(30):
        context = Context()
        told: list[str] = []
        context.add_callback(told.append)
        won: list[int] = []

        def work(number: int, context: Context = context, won: list[int] = won) -> None:
            if context.cancel(str(number)):
                won.append(number)
            assert context.cancelled

        together(4, work)
        assert told == [str(number) for number in won]
        assert len(told) == 1
        assert context.reason == told[0]


def test_context_callback_added_during_cancel_runs_once() -> None:
    for _ in range(30):
        context = Context()
        told = threading.Semaphore(0)

        def work(
            number: int, context: Context = context, told: threading.Semaphore = told
        ) -> None:
            if number:
                context.add_callback(lambda _: told.release())
            else:
                context.cancel()

        together(3, work)
        assert told.acquire(blocking=False)
        assert told.acquire(blocking=False)
        assert not told.acquire(blocking=False)
