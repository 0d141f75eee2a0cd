"""The server that the Autobahn suite tests: hubthread sends back what it receives.

Made of public names alone, so that the suite sees what a user of the library gets:

    python -m tests.autobahn.echo_server [--compression]

Prints one line, ``listening ws://127.0.0.1:PORT``, and serves until SIGTERM or SIGINT,
after which it must end by itself.
"""

from __future__ import annotations

import argparse
import signal
from typing import Any

from hubthread import Hub, HubSetting, Upgrader, WebsocketPeriod

LARGEST_MESSAGE = 64 * 1024 * 1024
"""Above section 9's largest, 16 MiB: the suite tests the protocol here, not our limits."""

_STOP = (signal.SIGTERM, signal.SIGINT)


def echo(ctx: Any, meta: dict[str, Any]) -> bool:
    """Send each message back as it came: text as text, binary as binary."""
    ctx.write(ctx.payload)
    return False  # handled


def setting(*, compression: bool) -> HubSetting:
    """What the server is made of; ``compression`` says whether it takes deflate offers."""
    return HubSetting(
        meta_gen=dict,
        on_receive_message=echo,
        websocket_period=WebsocketPeriod(
            upgrader=Upgrader(compression=compression, check_origin="any"),
            message_buffer_size=LARGEST_MESSAGE,
        ),
    )


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="tests.autobahn.echo_server", description=__doc__)
    parser.add_argument("--compression", action="store_true", help="accept permessage-deflate")
    arguments = parser.parse_args()

    # Blocked before the first thread starts, since threads inherit it: the signal then
    # waits for sigwait below, wherever it arrives.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    with (
        Hub(setting(compression=arguments.compression)) as hub,
        hub.serve("127.0.0.1", 0) as server,
    ):
        host, port = server.address
        print(f"listening ws://{host}:{port}", flush=True)
        signal.sigwait(_STOP)


if __name__ == "__main__":
    main()
