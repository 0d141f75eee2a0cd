"""The server that the Autobahn suite tests: hubthread sends back what it receives.

Made of public names alone, so that the suite sees what a user of the library gets:

    python -m tests.autobahn.echo_server [--compression]

Prints one line, ``listening ws://127.0.0.1:PORT/``, and serves until SIGTERM or SIGINT,
after which it must end by itself.
"""

from __future__ import annotations

import argparse
import logging
import signal
from typing import Any

from hubthread import Hub, HubSetting, IOContext, Upgrader, WebsocketPeriod, default_logger

# The suite tests the protocol, not our limits, so these are above what section 9 sends.
# With hubthread's defaults some of its cases end in a close with 1009, as they should:
# 9.3.1 to 9.3.4 and 9.4.1 to 9.4.4, for one, have more fragments than the default allows.
LARGEST_MESSAGE = 64 * 1024 * 1024
"""Section 9's largest has 16 MiB."""
MOST_FRAGMENTS = 128 * 1024
"""9.3.1 sends 4 MiB in fragments of 64 bytes: 65,536 of them."""

_STOP = (signal.SIGTERM, signal.SIGINT)


def echo(ctx: IOContext, meta: dict[str, Any]) -> bool:
    """Send each message back as it came: text as text, binary as binary."""
    ctx.write(ctx.payload)
    return False  # handled


def setting(*, compression: bool) -> HubSetting[dict[str, Any], Any]:
    """What the server is made of; ``compression`` says whether it takes deflate offers."""
    return HubSetting(
        meta_gen=dict,
        on_receive_message=echo,
        websocket_period=WebsocketPeriod(
            upgrader=Upgrader(compression=compression, check_origin="any"),
            message_buffer_size=LARGEST_MESSAGE,
            max_fragments=MOST_FRAGMENTS,
        ),
    )


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="tests.autobahn.echo_server", description=__doc__)
    parser.add_argument("--compression", action="store_true", help="accept permessage-deflate")
    arguments = parser.parse_args()

    # Peers that break the protocol are the point here; errors of our own are not.
    default_logger().setLevel(logging.ERROR)
    # Blocked before the first thread starts, since threads inherit it: the signal then
    # waits for sigwait below, wherever it arrives.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    with (
        Hub(setting(compression=arguments.compression)) as hub,
        hub.serve("127.0.0.1", 0) as server,
    ):
        print(f"listening {server.url}", flush=True)
        signal.sigwait(_STOP)


if __name__ == "__main__":
    main()
