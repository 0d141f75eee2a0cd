"""``ctx.request``: a request to one client, whose answer a thread waits for or a function gets.

Layer: clients.  Threads: any; the function runs in the client's order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hubthread.checks import check_number, check_work, checked
from hubthread.clients.pending import Followed, PendingRequests
from hubthread.errors import ClientClosed, DeadlockError, UsageError
from hubthread.net.tick_batch import refuse_in_tick

__all__ = ["ask"]


def ask(
    client: Any,
    header: Any,
    obj: object,
    timeout: float,
    into: Any,
    then: Callable[[Any, Any, Any], object] | None,
) -> Any:
    """Send a request to ``client``.

    :returns: the answer; None with ``then``.
    """
    check_number("timeout", timeout, 0)
    if then is None:
        _refuse_to_wait(client)
    else:
        check_work(then, ("ctx", "meta", "answer"))
    matcher = client.matcher
    if matcher is None:
        raise UsageError("request needs a receive_matcher, which finds the answers")
    load = matcher.answer_as(into)  # raises before anything is sent
    pending: PendingRequests = client._pending_requests()
    question = partial(matcher.question, header, obj)
    if then is None:
        return load(pending.wait(client, question, timeout))
    followed = Followed(load, partial(_tell, client, then), partial(_run_soon, client))
    pending.follow(client, question, timeout, followed, client._core.timers)
    return None


def _refuse_to_wait(client: Any) -> None:
    client._core.loop.refuse_here("request")
    refuse_in_tick("request")
    if client.is_here():
        raise DeadlockError(
            f"request in a callback of client {client.connection_id} itself: its answer is read "
            f"only after the callback has returned; call request on another thread, or with then"
        )


def _tell(client: Any, then: Callable[[Any, Any, Any], object], answer: Any) -> None:
    """Call ``then`` with an answer, or with the error in its place."""
    try:
        checked(then(client, client.meta, answer))
    except BaseException as error:  # noqa: BLE001 - told to the user or the log
        client._failed(error)


def _run_soon(client: Any, work: Callable[[], object]) -> None:
    """Run ``work`` in the client's order, also if many closures wait."""
    run = partial(client._call, work)
    try:
        client._strand.post(run, essential=True)
    except ClientClosed:
        if client.is_here():  # a UDP peer leaves in its own order
            run()
