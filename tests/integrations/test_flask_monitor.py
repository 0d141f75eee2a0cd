"""The monitor page inside a Flask application."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, abort, session

from hubthread import HubSetting, Request, UsageError
from hubthread.integrations.flask import FlaskHub
from hubthread.testing import VirtualHub


def guard(request: Request) -> str | None:
    if "name" not in session:
        abort(401, "Log in first.")
    name: str = session["name"]
    return name if name.startswith("admin") else None


def site() -> tuple[Flask, FlaskHub[dict[str, Any], str]]:
    app = Flask("site")
    app.secret_key = "secret"
    realtime: FlaskHub[dict[str, Any], str] = FlaskHub(HubSetting(dict, hub_name="shop"))

    @app.post("/login/<name>")
    def login(name: str) -> str:
        session["name"] = name
        return ""

    return app, realtime


def test_monitor_in_flask_is_guarded_by_the_session() -> None:
    app, realtime = site()
    with realtime.init_app(app, VirtualHub) as hub:
        realtime.monitor(app, "/admin/hub", guard=guard, actions=True)
        browser = app.test_client()
        mark = {"X-Hubthread-Monitor": "1"}
        room = hub.hotline()
        act = f"/admin/hub/act?do=close&id={room.hotline_id}"
        for place in ("", "monitor.js", "data"):
            assert browser.get(f"/admin/hub/{place}").status_code == 401
        browser.post("/login/eve")
        assert browser.get("/admin/hub/data").status_code == 403
        assert browser.post(act, headers=mark).status_code == 403
        browser.post("/login/admin-ann")
        assert browser.get("/admin/hub").headers["Location"].endswith("/admin/hub/")
        assert b"monitor.js" in browser.get("/admin/hub/").data
        assert browser.get("/admin/hub/data").json["hub"]["name"] == "shop"  # type: ignore[index]
        assert browser.get(act).status_code == 405
        # A form of a foreign page has the cookie, and not the field.
        assert browser.post(act).status_code == 403
        assert not room.is_closed
        assert browser.post(act, headers=mark).json == {
            "done": "closed <Hotline 1 closed, 0 members>"
        }
        assert browser.put("/admin/hub/data").status_code == 405


def test_monitor_in_flask_needs_an_application_with_a_hub() -> None:
    app, realtime = site()
    with pytest.raises(UsageError, match="init_app"):
        realtime.monitor(app, "/admin/hub", guard=guard)
