"""A chat with login and rooms, in Flask: each posted message reaches every browser at once.

::

    flask --app hubthread.examples.flask_chat run           # http://127.0.0.1:5000
    SECRET_KEY=… gunicorn --threads 8 'hubthread.examples.flask_chat:create_app()'

It is an ordinary site of forms and pages that works without JavaScript; the script adds the
messages of others as they are posted.  Run it in one process: each process has its own rooms.

Layer: top.  Threads: views run on the server's threads, ``on_start`` in each client's order.  The
hub thread owns the rooms and their messages; only its closures touch them.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, abort, redirect, render_template_string, request, session, url_for
from werkzeug.wrappers import Response

from hubthread import DHub, Hotline, HotlineOption, Hub, HubSetting, IOContext
from hubthread.integrations.flask import FlaskHub

__all__ = ["create_app"]

MOST_ROOMS = 100
KEPT = 100
"""Messages of each room that are kept for newcomers."""

NAME = re.compile(r"\w[\w .-]{0,19}")
"""The allowed names of people and rooms."""

Meta = dict[str, Any]
Message = dict[str, Any]


@dataclass
class Room:
    """A room and its last messages.  The hub thread owns it."""

    hotline: Hotline[Meta, str]
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0


def create_app(hub_class: type[Hub[Any, Any]] = Hub) -> Flask:
    """Return the application.

    :param hub_class: the class of the hub; tests give ``hubthread.testing.VirtualHub``.
    """
    app = Flask(__name__)
    # Set SECRET_KEY to keep users logged in over a restart.
    app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
    # Lax: pages of other sites cannot post in the name of a user.
    app.config.update(SESSION_COOKIE_SAMESITE="Lax", MAX_CONTENT_LENGTH=16 * 1024)
    rooms: dict[str, Room] = {}

    def on_start(ctx: IOContext, meta: Meta) -> None:
        def join(dhub: DHub[Meta, str]) -> None:
            room: Room = meta["room"]
            room.hotline.answer(ctx)
            for message in room.messages:  # posted since the page was made
                if message["number"] > meta["after"]:
                    ctx.write_json(message)

        hub.exec_sync(join)

    realtime: FlaskHub[Meta, str] = FlaskHub(HubSetting(dict, on_connection_start=on_start))
    hub = realtime.init_app(app, hub_class)

    def find(name: str) -> Room:
        def look(dhub: DHub[Meta, str]) -> Room | None:
            if name not in rooms and len(rooms) < MOST_ROOMS:
                rooms[name] = Room(hub.hotline(HotlineOption(name=name)))
            return rooms.get(name)

        if not NAME.fullmatch(name):
            abort(404, "This is not a name for a room.")
        return hub.exec_sync(look) or abort(404, "There are enough rooms.")

    @app.before_request
    def check_login() -> Response | None:
        if "user" in session or request.endpoint in ("login", "index"):
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
        messages = hub.exec_sync(lambda _: list(room.messages))
        others = hub.exec_sync(lambda _: sorted(rooms))
        return render_template_string(PAGE, name=name, messages=messages, rooms=others)

    @app.post("/rooms/<name>")
    def post(name: str) -> Response:
        room, text, user = find(name), request.form.get("text", "").strip()[:500], session["user"]

        def add(dhub: DHub[Meta, str]) -> None:
            room.count += 1
            message = {"number": room.count, "user": user, "text": text}
            room.messages.append(message)
            room.hotline.push_json(message)

        if text:
            hub.exec_sync(add)
        return redirect(url_for("show", name=name), 303)

    @realtime.route(app, "/rooms/<name>/ws")
    def connect(name: str) -> Meta:
        return {"room": find(name), "after": request.args.get("after", 0, int)}

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
  #state { color: #777; font-size: .85rem }
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
<ol id="messages">
{% for each in messages %}<li><b>{{ each.user }}</b><span>{{ each.text }}</span></li>
{% endfor %}</ol>
<form method="post" id="say">
  <input name="text" maxlength="500" required autofocus autocomplete="off" aria-label="message">
  <button>Say</button>
</form>
<p id="state"></p>
<script>
  let after = {{ messages[-1].number if messages else 0 }}
  const place = location.href.replace(/^http/, "ws").replace(/[?#].*/, "") + "/ws?after="
  const state = document.querySelector("#state")
  function connect() {
    const socket = new WebSocket(place + after)
    socket.onopen = () => { state.textContent = "live" }
    socket.onclose = () => {
      state.textContent = "waiting"
      setTimeout(connect, 500 + 1500 * Math.random())
    }
    socket.onmessage = event => {
      const message = JSON.parse(event.data), line = document.createElement("li")
      after = message.number
      for (const [tag, text] of [["b", message.user], ["span", message.text]]) {
        line.append(Object.assign(document.createElement(tag), { textContent: text }))
      }
      document.querySelector("#messages").append(line)
    }
  }
  connect()
</script>
{% endif %}
"""
