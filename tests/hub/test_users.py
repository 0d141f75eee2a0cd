"""Users: ``HubSetting.user``, ``hub.user`` and ``hub.users``."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import HubSetting, IOContext, User, WrongType
from hubthread.testing import VirtualHub


def user_of(ctx: IOContext, meta: object) -> Any:
    """The user is the path of the request."""
    name = ctx.handshake.path[1:]
    return {"": None, "7": 7, "raises": None}.get(name, name) if name != "raises" else 1 // 0


def virtual(**fields: Any) -> VirtualHub[Any, Any]:
    return VirtualHub(HubSetting(dict, user=user_of, **fields))


def test_write_reaches_all_clients_of_the_user_and_no_other() -> None:
    started = []
    with virtual(on_connection_start=lambda ctx, meta: started.append(ctx.user)) as hub:
        phone, page, bob, nobody = (hub.connect(path) for path in ("/ann", "/ann", "/bob", "/"))
        assert started == ["ann", "ann", "bob", None]
        ann = hub.user("ann")
        assert (ann.write("hello"), ann.write_json({"n": 1})) == (2, 2)
        assert phone.messages() == page.messages() == ["hello", '{"n":1}']
        assert bob.messages() == nobody.messages() == []
        assert ann.clients == [phone.ctx, page.ctx]

        phone.drop()
        hub.settle()
        assert (ann.write(b"bytes"), page.messages()) == (1, [b"bytes"])
        assert [user.name for user in hub.users()] == ["ann", "bob"]
        page.drop()
        hub.settle()
        assert (ann.write("nobody is here"), ann.clients) == (0, [])
        assert [user.name for user in hub.users()] == ["bob"]
        assert repr(ann) == "<User 'ann', 0 clients>"


def test_hub_without_the_setting_has_no_users() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        assert hub.connect("/ann").ctx.user is None
        assert (hub.users(), hub.user("ann").write("hello")) == ([], 0)


@pytest.mark.parametrize("path", ["/raises", "/7"])
def test_user_that_cannot_be_named_is_closed_and_logged(path: str) -> None:
    with virtual() as hub:
        client = hub.connect(path)
        assert client.close_code == 1011
        assert len(hub.errors) == 1
        assert (hub.users(), hub.clients_num()) == ([], 0)


def test_bad_arguments_are_refused() -> None:
    with virtual() as hub:
        client = hub.connect("/ann")
        with pytest.raises(WrongType, match="name: expected a string"):
            hub.user(7)  # type: ignore[arg-type]
        user: User[Any, Any] = hub.user("ann")
        with pytest.raises(WrongType, match="expected a message of str"):
            user.write({})  # type: ignore[arg-type]
        with pytest.raises(WrongType, match="key: expected"):
            user.write("text", key=object())  # type: ignore[arg-type]
        assert client.messages() == []
