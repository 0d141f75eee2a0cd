"""The server that the Autobahn suite tests: an echo server made of public names only.

::

    python -m tests.autobahn.echo_server [--compression]

It prints one line, ``listening ws://127.0.0.1:PORT/``, and serves until SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from typing import Any

from hubthread import (
    Hub,
    HubSetting,
    IOContext,
    Readers,
    Upgrader,
    WebsocketPeriod,
    default_logger,
)

# The suite tests the protocol, not the limits, so these are above the sizes of section 9.  With
# the defaults, cases with more fragments end with 1009, as they should (9.3.1 to 9.3.4 and 9.4.1
# to 9.4.4).
LARGEST_MESSAGE = 64 * 1024 * 1024
"""The largest message of section 9 has 16 MiB."""
MOST_FRAGMENTS = 128 * 1024
"""9.3.1 sends 4 MiB in fragments of 64 bytes: 65,536 of them."""

_STOP = (signal.SIGTERM, signal.SIGINT)


def echo(ctx: IOContext, meta: dict[str, Any]) -> bool:
    """Send each message back, text as text and binary as binary."""
    ctx.write(ctx.payload)
    return False  # handled


def setting(*, compression: bool) -> HubSetting[dict[str, Any], Any]:
    """Return the setting of the server."""
    return HubSetting(
        meta_gen=dict,
        on_receive_message=echo,
        readers=Readers(os.environ.get("HUBTHREAD_TEST_READERS", "own")),
        websocket_period=WebsocketPeriod(
            upgrader=Upgrader(compression=compression, check_origin="any"),
            message_buffer_size=LARGEST_MESSAGE,
            max_fragments=MOST_FRAGMENTS,
        ),
    )


def main() -> None:
    """Serve until a signal arrives."""
    parser = argparse.ArgumentParser(prog="tests.autobahn.echo_server", description=__doc__)
    parser.add_argument("--compression", action="store_true", help="accept permessage-deflate")
    arguments = parser.parse_args()

    # The suite breaks the protocol on purpose; only errors of the library are of interest.
    default_logger().setLevel(logging.ERROR)
    # Blocked before the first thread starts, because threads inherit it; then only the sigwait
    # below takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    with (
        Hub(setting(compression=arguments.compression)) as hub,
        hub.serve("127.0.0.1", 0) as server,
    ):
        print(f"listening {server.url}", flush=True)
        signal.sigwait(_STOP)


if __name__ == "__main__":
    main()
