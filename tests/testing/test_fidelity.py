"""A virtual client sees the same bytes answered as a client with a socket."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import HubSetting
from hubthread.testing import VirtualHub
from tests.support import BINARY, CLOSE, PING, TEXT, Logs, masked_frame, serving


def setting() -> dict[str, Any]:
    """Return settings that answer each message, and ask the hub thread to count."""

    def come(ctx: Any, meta: Any) -> None:
        ctx.write(f"welcome {ctx.connection_id}")

    def hear(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "leave":
            ctx.close(4321, "as you like")
        meta["count"] = meta.get("count", 0) + ctx.hub.exec_sync(lambda dhub: dhub.clients_num())
        ctx.write(ctx.payload)
        ctx.write(str(meta["count"]))
        return False

    return {"on_connection_start": come, "on_receive_message": hear}


@pytest.mark.parametrize(
    "wire",
    [
        masked_frame("one") + masked_frame(b"two", BINARY) + masked_frame("leave"),
        masked_frame("a", TEXT, fin=False) + masked_frame("b", 0) + masked_frame("leave"),
        masked_frame("ping", PING) + masked_frame("leave") + masked_frame("not heard"),
        masked_frame("x" * 70_000) + masked_frame("leave"),
        masked_frame(b"\x0f\xa0bye", CLOSE),
        masked_frame(b"", CLOSE),
        masked_frame(b"\x03\xed", CLOSE),  # 1005, which must not be sent
        masked_frame(b"\xff\xfe", TEXT),
        masked_frame("one") + masked_frame(b"", 11),
        masked_frame("x", TEXT, rsv=4),
        b"\x81\x03one",
        masked_frame("one") + masked_frame(b"y" * 126, PING),
        masked_frame("z" * 1024, TEXT, fin=False) * 2,
    ],
)
def test_virtual_and_real_client_see_the_same_messages_and_end(wire: bytes) -> None:
    logs = Logs()
    with VirtualHub(HubSetting[Any, Any](dict, logger=logs, **setting())) as hub:
        client = hub.connect()
        client.send_wire(wire)
        virtual = client.messages(), client.close_code, client.close_reason
        hub.advance(5)
        assert hub.clients_num() == 0
    with serving(**setting()) as served:
        peer = served.peer()
        peer.sock.sendall(wire)
        messages, code, reason = peer.rest()
        real = messages, code or 1005, reason  # an empty Close
    assert virtual == real
