"""One connection, as programs hold it, and work on many of them.

Layer: clients.  Threads: a client's callbacks run one at a time, in order, most of them on the
client's reader thread.

In the order to read them:

client.py       ``Client``: writing, callbacks, closures, messages
admission.py    ``HubSetting.check_token``: clients that show a token in their first message
around.py       ``HubSetting.around_callback``: a context manager around each callback
reports.py      the log lines and errors of a client
membership.py   ``Memberships``: the rooms that a client is in
asking.py       ``ctx.request``
pending.py      ``PendingRequests``: requests to a client that wait for their answers
raw.py          ``SocketClient`` and ``DatagramClient``: raw TCP and UDP peers
each.py         ``each_client`` and ``Iteration``: a task for each client of a hub or room
ratelimit.py    ``RateLimiter``: a token bucket for each client
idle.py         ``IdleSweep``: the end of clients that send nothing
"""
