"""A WSGI application whose hub listens on a port of its own, and its configuration of gunicorn."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from hubthread import Hub, HubSetting

logging.basicConfig(stream=sys.stderr, level=logging.INFO)


def listen(hub: Any) -> None:
    hub.serve(os.environ["OWN_HOST"], int(os.environ["OWN_PORT"]), reuse_port=True)
    sys.stderr.write("the hub listens\n")


hub: Hub[Any, Any] = Hub(
    HubSetting(
        dict,
        delayed_execution=listen,
        on_connection_start=lambda ctx, meta: ctx.write(str(os.getpid())),
    )
)


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer after 3 s: a worker that is to end has to wait for it."""
    threading.Event().wait(3)
    start_response("200 OK", [("Content-Length", "0")])
    return []


def post_worker_init(worker: Any) -> None:
    """Start the hub in the worker."""
    # gunicorn has run this file once more, as its configuration.
    importlib.import_module("tests.integrations.own_port").hub.start_once()


def child_exit(server: Any, worker: Any) -> None:
    """Tell that the process of a worker has ended, and its listener with it."""
    sys.stderr.write("a worker has ended\n")
