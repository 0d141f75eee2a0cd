"""Hubs inside frameworks.  Each module needs the extra of its name.

flask.py          ``FlaskHub``: a Flask extension, and the route for WebSocket views
django.py         the response of a WebSocket view, and what gives database connections back
prometheus.py     the metrics of a hub in a registry of ``prometheus_client``
opentelemetry.py  the metrics as instruments, and the trace that a client came with

Layer: integrations.  Threads: views run on the WSGI server's threads, callbacks of clients on
the hub's.
"""
