"""One of several processes whose clients may come back in any of them, by way of Redis.

It listens on the Unix socket of its argument, says ``ready``, and ends with its standard input.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hubthread import (
    History,
    HotlineOption,
    Hub,
    HubSetting,
    IOContext,
    JsonHeader,
    MatcherMap,
    RedisBackplane,
    Sessions,
)

Meta = dict[str, Any]

matcher: MatcherMap[Meta, str] = MatcherMap(JsonHeader("type"))


@matcher.handle("say")
def say(ctx: IOContext, meta: Meta, message: dict[str, Any]) -> None:
    meta["said"] = message["n"]
    room.push_json({"n": message["n"]})


def tell(ctx: IOContext, meta: Meta) -> None:
    ctx.write_json({"type": "here", "id": ctx.connection_id, "in": os.getpid(), **meta})


setting = HubSetting[Meta, str](
    dict,
    receive_matcher=matcher,
    backplane=RedisBackplane(os.environ["REDIS_URL"], prefix="sessions"),
    sessions=Sessions(save=lambda ctx, meta: meta, load=lambda ctx, moved: moved.saved),
    may_join=lambda ctx, meta, name: True,
    on_connection_start=tell,
    on_connection_resume=tell,
)

if __name__ == "__main__":
    with Hub(setting) as hub:
        room = hub.room("table 7", HotlineOption("table 7", shared=True, history=History()))
        hub.serve(unix_path=sys.argv[1])
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
