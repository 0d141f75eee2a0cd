"""A Django project in one module, with a hub.

A client at ``/ws`` has to be logged in.  It gets the number of users and its own name for each
message.  ``/figures`` has the number of database connections that are open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

FILE = Path(os.environ["HOME"]) / "site.sqlite3"

settings.configure(
    SECRET_KEY="secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FILE}},
)  # fmt: skip
django.setup()

from django.contrib.auth import login  # noqa: E402 - needs the settings
from django.contrib.auth.models import User  # noqa: E402

from hubthread import Hub, HubSetting  # noqa: E402
from hubthread.integrations.django import database_connections, websocket_response  # noqa: E402


def answer(ctx: Any, meta: Any) -> bool:
    ctx.write(f"{User.objects.count()} {meta['user']}")
    return True


hub: Hub[Any, Any] = Hub(
    HubSetting(dict, on_receive_message=answer, around_callback=database_connections)
)


def ws(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        raise PermissionDenied("Log in first.")
    return websocket_response(hub, request, {"user": request.user.username})


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    login(request, User.objects.get_or_create(username=name)[0])
    request.session.save()
    return HttpResponse(request.session.session_key)


def figures(request: HttpRequest) -> JsonResponse:
    files = [os.path.realpath(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")]
    figures = hub.statistics()
    return JsonResponse(
        {"connections": files.count(str(FILE.resolve())), "clients": figures.clients}
    )


urlpatterns = [path("ws", ws), path("login/<name>", log_in), path("figures", figures)]
call_command("migrate", verbosity=0)
connections.close_all()
application = get_wsgi_application()
