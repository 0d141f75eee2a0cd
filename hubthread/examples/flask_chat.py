"""A chat with login and rooms, in Flask: each posted message reaches every browser at once.

Layer: top.  Threads: views run on the server's threads, ``may_join`` on a client's.

::

    flask --app hubthread.examples.flask_chat run           # http://127.0.0.1:5000
    SECRET_KEY=… gunicorn --threads 8 'hubthread.examples.flask_chat:create_app()'

A page that loses its line comes back by itself, gets what was said meanwhile, and says so if
something is missing.  Run it in one process: each process has its own rooms.
"""

from __future__ import annotations

import os
import re
import secrets
from typing import Any

from flask import Flask, abort, redirect, render_template_string, request, session, url_for
from werkzeug.wrappers import Response

from hubthread import History, Hotline, HotlineOption, Hub, HubSetting, IOContext
from hubthread.integrations.flask import FlaskHub

__all__ = ["create_app"]

MOST_ROOMS = 100
KEPT = 100
"""Messages of each room that are kept for newcomers."""

NAME = re.compile(r"\w[\w .-]{0,19}")
"""The allowed names of people and rooms."""

OPEN = ("index", "login", "hubthread_client")
"""The endpoints of everybody: the others want a login."""

Meta = dict[str, Any]


def create_app(hub_class: type[Hub[Any, Any]] = Hub) -> Flask:
    """Return the application.

    :param hub_class: the class of the hub; tests give ``hubthread.testing.VirtualHub``.
    """
    app = Flask(__name__)
    # Set SECRET_KEY to keep users logged in over a restart.
    app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
    # Lax: pages of other sites cannot post in the name of a user.
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", MAX_CONTENT_LENGTH=16 * 1024)
    option = HotlineOption(shared=True, history=History(KEPT), close_when_empty=3600)

    def find(name: str) -> Hotline[Meta, str] | str:
        """Return the room of that name, or why there is none."""
        if not NAME.fullmatch(name):
            return "This is not a name for a room."
        names = {room.name for room in hub.rooms()}
        if name not in names and len(names) >= MOST_ROOMS:
            return "There are enough rooms."
        return hub.room(name, option)

    def may_join(ctx: IOContext, meta: Meta, name: str) -> bool | str:
        room = find(name)
        return room if isinstance(room, str) else True

    realtime: FlaskHub[Meta, str] = FlaskHub(HubSetting(dict, may_join=may_join))
    hub = realtime.init_app(app, hub_class)

    @app.before_request
    def check_login() -> Response | None:
        if "user" in session or request.endpoint in OPEN:
            return None
        if request.endpoint == "connect":
            abort(401, "Log in first.")
        return redirect(url_for("index"))

    @app.get("/")
    def index() -> str | Response:
        if "user" in session:
            return redirect(url_for("show", name="lobby"))
        return render_template_string(PAGE)

    @app.post("/login")
    def login() -> Response:
        name = request.form.get("user", "").strip()
        if not NAME.fullmatch(name):
            abort(400, "A name has up to 20 letters, digits and blanks.")
        session["user"] = name
        return redirect(url_for("show", name="lobby"))

    @app.post("/logout")
    def logout() -> Response:
        session.clear()
        return redirect(url_for("index"))

    @app.get("/rooms/")
    def go() -> Response:
        return redirect(url_for("show", name=request.args.get("name", "").strip() or "lobby"))

    @app.get("/rooms/<name>")
    def show(name: str) -> str:
        room = find(name)
        if isinstance(room, str):
            abort(404, room)
        others = sorted(each.name for each in hub.rooms())
        return render_template_string(PAGE, name=name, rooms=others, kept=KEPT)

    @app.post("/rooms/<name>")
    def post(name: str) -> tuple[str, int]:
        room, text = find(name), request.form.get("text", "").strip()[:500]
        if isinstance(room, str):
            abort(404, room)
        if text:
            room.push_json({"type": "said", "user": session["user"], "text": text})
        return "", 204

    @realtime.route(app, "/ws")
    def connect() -> Meta:
        return {"user": session["user"]}

    return app


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>{{ name or "Log in" }} · chat</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 0 auto; padding: 1rem }
  header { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center }
  h1 { font-size: 1.3rem; margin: 0; flex: 1 }
  form { display: flex; gap: .5rem; margin: 0 }
  input { font: inherit; flex: 1; min-width: 0; padding: .3rem .5rem }
  button { font: inherit }
  ol { list-style: none; padding: 0; overflow-wrap: anywhere }
  li b { margin-right: .5rem }
  li i, #state { color: #777; font-size: .85rem }
</style>
{% if not name %}
<h1>A chat</h1>
<form method="post" action="{{ url_for('login') }}">
  <input name="user" maxlength="20" required autofocus placeholder="your name" aria-label="name">
  <button>Log in</button>
</form>
{% else %}
<header>
  <h1>{{ name }}</h1>
  <form action="{{ url_for('go') }}">
    <input name="name" maxlength="20" list="rooms" placeholder="another room" aria-label="room">
    <button>Go</button>
  </form>
  <form method="post" action="{{ url_for('logout') }}">
    <button>Log {{ session.user }} out</button>
  </form>
</header>
<datalist id="rooms">{% for each in rooms %}<option>{{ each }}</option>{% endfor %}</datalist>
<ol id="messages"></ol>
<form method="post" id="say">
  <input name="text" maxlength="500" required autofocus autocomplete="off" aria-label="message">
  <button>Say</button>
</form>
<p id="state"></p>
<script type="module">
  import { connect } from "{{ url_for('hubthread_client') }}"

  const find = selector => document.querySelector(selector)
  function show(...parts) {
    const line = document.createElement("li")
    for (const [tag, text] of parts)
      line.append(Object.assign(document.createElement(tag), { textContent: text }))
    find("#messages").append(line)
  }

  const hub = connect("{{ url_for('connect') }}")
  const room = hub.room({{ name | tojson }}, { replay: {{ kept }} })
  room.on("said", ({ user, text }) => show(["b", user], ["span", text]))
  room.on("gap", () => show(["i", "Something was said that is lost."]))
  room.on("refused", error => find("#state").textContent = error.message)
  hub.on("state", ({ state, reason }) =>
    find("#state").textContent = state === "open" ? "live" : `${state}: ${reason}`)

  find("#say").onsubmit = async event => {
    event.preventDefault()
    const body = new FormData(event.target)
    const answer = await fetch("", { method: "post", body }).catch(() => null)
    if (answer?.ok) event.target.reset()
    else find("#state").textContent = "not sent: try again"
  }
</script>
{% endif %}
"""
