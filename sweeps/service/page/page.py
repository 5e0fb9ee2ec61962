"""The service's page: the list, one sweep live, and a form that shows the plan before it sends."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote_plus

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from plotly.offline import get_plotlyjs

from analysis.output.formats import UNKNOWN, cost_words, nats, number, with_interval
from sweeps.service.access.guard import LOGIN
from sweeps.service.access.head import COOKIE
from sweeps.service.access.users import Users
from sweeps.service.view.view import View

FOLDER = Path(__file__).with_name("templates")
STATIC = {"page.js": "text/javascript", "page.css": "text/css"}
FORM = re.compile(rb"(?:^|&)token=([^&]*)")
PLAIN = re.compile(r"[\x21-\x7e]{1,200}")  # what a cookie can hold
START = "# Paste a config here, such as conf/demo.yaml.\n"


def add_pages(app: FastAPI, view: View, users: Users) -> None:
    """Adds the pages to the app."""
    pages = Environment(
        loader=PackageLoader("sweeps.service.page"), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    pages.globals |= {
        "nats": nats,
        "number": number,
        "cost_words": cost_words,
        "with_interval": with_interval,
        "unknown": UNKNOWN,
    }

    def page(name: str, **values: object) -> HTMLResponse:
        return HTMLResponse(pages.get_template(name).render(**values))

    @app.get("/", include_in_schema=False)
    def listed() -> HTMLResponse:
        return page("list.html", rows=view.rows(), waiting=view.waiting(users.parts()))

    @app.get("/page/new", include_in_schema=False)
    def new() -> HTMLResponse:
        return page("new.html", config=START)

    @app.get("/page/sweeps/{name}", include_in_schema=False)
    def sweep(name: str) -> HTMLResponse:
        row = view.row(name)
        has_report = (view.storage / row["name"] / "report.html").is_file()
        waits = next((one["waits_for"] for one in view.waiting(users.parts()) if one["id"] == row["name"]), None)
        return page("sweep.html", row=row, has_report=has_report, waits=waits)

    @app.get("/static/plotly.js", include_in_schema=False)
    def plotly() -> Response:
        return Response(get_plotlyjs(), media_type="text/javascript", headers={"cache-control": "max-age=86400"})

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in STATIC:
            return Response(status_code=404)
        return Response((FOLDER / name).read_text(encoding="utf-8"), media_type=STATIC[name])

    @app.post("/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        found = FORM.search(await request.body())
        token = unquote_plus(found[1].decode("latin-1")).strip() if found else ""
        if not PLAIN.fullmatch(token):
            return HTMLResponse(LOGIN, 401)
        # With a wrong one the next page asks again.
        answer = RedirectResponse("/", 303)
        # A proxy in front speaks TLS, and this service never: only the browser knows.
        secure = request.headers.get("origin", "").startswith("https://")
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return answer

    @app.post("/logout", include_in_schema=False)
    def logout() -> Response:
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer
