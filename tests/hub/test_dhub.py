"""The hub as closures see it."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    DHub,
    WrongThread,
)
from tests.support import (
    serving,
)


def test_dhub_on_another_thread_refuses_every_method() -> None:
    """On the hub thread it shows clients and hotlines."""
    with serving() as s:
        _, client = s.pair()
        hotline = s.hub.hotline()

        def look(dhub: DHub[Any, Any]) -> DHub[Any, Any]:
            assert dhub.hub is s.hub
            assert dhub.clients() == [client]
            assert dhub.clients_num() == 1
            assert dhub.client(client.connection_id) is client
            assert dhub.hotlines() == [hotline]
            assert dhub.hotline(hotline.hotline_id) is hotline
            hotline.close()
            assert dhub.hotline(hotline.hotline_id) is None
            return dhub

        kept = s.hub.exec_sync(look)
        for use in (
            lambda: kept.hub,
            kept.clients,
            kept.clients_num,
            kept.hotlines,
            lambda: kept.client(client.connection_id),
            lambda: kept.hotline(hotline.hotline_id),
            lambda: client.exec_sync(kept.clients),
        ):
            with pytest.raises(WrongThread, match="exec_sync"):
                use()
        assert repr(kept) == f"<DHub of {s.hub!r}>"
