"""Objects as messages: encoded and decoded by the hub's matcher, or as JSON without one.

Layer: hub.  Threads: any thread may call these functions.
"""

from __future__ import annotations

from typing import Any

from hubthread.checks import check_kind
from hubthread.matcher.compile import marshal_json, unmarshal_json
from hubthread.matcher.jsontext import splice
from hubthread.settings import HubSetting

__all__ = ["marshal", "splice_object", "unmarshal"]


def marshal(setting: HubSetting[Any, Any], obj: object) -> str | bytes:
    """Encode an object; see ``Hub.marshal``."""
    matcher = setting.receive_matcher
    return marshal_json(obj) if matcher is None else matcher.marshal(obj)


def unmarshal(setting: HubSetting[Any, Any], data: str | bytes, into: Any) -> Any:
    """Decode a payload; see ``Hub.unmarshal``."""
    matcher = setting.receive_matcher
    return unmarshal_json(data, into) if matcher is None else matcher.unmarshal(data, into)


def splice_object(setting: HubSetting[Any, Any], prefix: str | bytes, obj: object) -> str | bytes:
    """Return ``prefix`` with an encoded object behind it; see ``Hub.byte_splicing``."""
    check_kind("prefix", prefix, str | bytes, "text or bytes")
    return splice(prefix, marshal(setting, obj))
