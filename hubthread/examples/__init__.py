"""Programs to run, read and copy.  Each is one file and needs ``hubthread[flask]``.

flask_chat.py   a chat with login and rooms: forms, pages, and one WebSocket view
dashboard.py    live figures of the server, measured by a background thread

Layer: top.  Threads: views run on the WSGI server's threads, callbacks of clients on the hub's.
"""
