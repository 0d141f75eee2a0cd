"""Programs to run, read and copy.  Each is one file.

flask_chat.py   a chat with login and rooms: forms, pages, and one WebSocket view (``[flask]``)
cards.py        a card game with hidden hands, whose players may lose their line
dashboard.py    live figures of the server, measured by a background thread (``[flask]``)
tracing.py      a span of OpenTelemetry around each callback, and metrics (``[otel]``, and the SDK)

Layer: top.  Threads: views run on the WSGI server's threads, callbacks of clients on the hub's.
"""
