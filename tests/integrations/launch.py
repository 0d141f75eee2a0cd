"""Run the application in one of the servers: ``python -m tests.integrations.launch KIND``.

It prints its address.
"""

from __future__ import annotations

import signal
import socketserver
import ssl
import sys
import threading
from collections.abc import Callable
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tests.integrations.app import application

CERTIFICATE = ("tests/data/localhost.pem", "tests/data/localhost.key")


class _Threaded(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


def _run(port: int, serve: Callable[[], object], stop: Callable[[], object]) -> None:
    """Serve on another thread until SIGTERM, then end as a script does."""
    # Before the first thread starts: only the sigwait below takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=serve, daemon=True).start()
    _tell(port)
    signal.sigwait({signal.SIGTERM})
    stop()


def _tell(port: int) -> None:
    sys.stdout.write(f"Listening at: http://127.0.0.1:{port}\n")
    sys.stdout.flush()


def werkzeug(*, debug: bool = False, tls: bool = False) -> None:
    from werkzeug.debug import DebuggedApplication
    from werkzeug.serving import make_server as make

    app = DebuggedApplication(application, evalex=True) if debug else application
    context = CERTIFICATE if tls else None
    server = make("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    _run(server.port, server.serve_forever, server.shutdown)


def reloader() -> None:
    """As ``flask run --debug``, with one more watched file."""
    from werkzeug.serving import run_simple

    run_simple(
        "127.0.0.1", 0, application, use_reloader=True, use_debugger=True, threaded=True,
        reloader_type="stat", extra_files=[sys.argv[2]],
    )  # fmt: skip


def wsgiref(*, threaded: bool = False, tls: bool = False) -> None:
    kind = _Threaded if threaded else WSGIServer
    with make_server("127.0.0.1", 0, application, kind, WSGIRequestHandler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*CERTIFICATE)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        _run(server.server_port, server.serve_forever, server.shutdown)


def runserver() -> None:
    """The server of Django's ``runserver``, with the application that the others have."""
    from django.conf import settings
    from django.core.servers.basehttp import ThreadedWSGIServer
    from django.core.servers.basehttp import WSGIRequestHandler as Handler

    settings.configure()
    server = ThreadedWSGIServer(("127.0.0.1", 0), Handler)
    server.set_app(application)
    with server:
        _run(server.server_port, server.serve_forever, server.shutdown)


def runserver_django() -> None:
    """``manage.py runserver``."""
    from django.core.management.commands.runserver import Command

    from tests.integrations import django_site  # noqa: F401 - sets Django up

    class Told(Command):  # type: ignore[misc]
        def on_bind(self, server_port: int) -> None:
            _tell(server_port)

    argv = ["manage.py", "runserver", "127.0.0.1:0", "--noreload", "--skip-checks"]
    Told().run_from_argv(argv)


def werkzeug_processes() -> None:
    from werkzeug.serving import make_server as make

    server = make("127.0.0.1", 0, application, processes=4)
    _run(server.port, server.serve_forever, server.shutdown)


def cheroot(*, tls: bool = False) -> None:
    from cheroot.ssl.builtin import BuiltinSSLAdapter
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", 0), application, numthreads=4)
    if tls:
        server.ssl_adapter = BuiltinSSLAdapter(*CERTIFICATE)
    server.prepare()
    _run(server.bind_addr[1], server.serve, server.stop)


def waitress() -> None:
    from waitress import create_server

    server = create_server(application, host="127.0.0.1", port=0)
    _tell(server.effective_port)
    server.run()


def gevent() -> None:
    from gevent.pywsgi import WSGIServer as Server

    server = Server(("127.0.0.1", 0), application)
    server.start()
    _tell(server.server_port)
    server.serve_forever()


def eventlet() -> None:
    import eventlet as green
    from eventlet import wsgi

    listener = green.listen(("127.0.0.1", 0))
    _tell(listener.getsockname()[1])
    wsgi.server(listener, application)


KINDS = {
    "werkzeug": werkzeug,
    "werkzeug-debug": lambda: werkzeug(debug=True),
    "werkzeug-reloader": reloader,
    "werkzeug-tls": lambda: werkzeug(tls=True),
    "werkzeug-processes": werkzeug_processes,
    "runserver": runserver,
    "runserver-django": runserver_django,
    "wsgiref": wsgiref,
    "wsgiref-threads": lambda: wsgiref(threaded=True),
    "wsgiref-tls": lambda: wsgiref(tls=True),
    "cheroot": cheroot,
    "cheroot-tls": lambda: cheroot(tls=True),
    "waitress": waitress,
    "gevent": gevent,
    "eventlet": eventlet,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
