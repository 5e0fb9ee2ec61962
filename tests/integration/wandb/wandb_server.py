"""A loopback W&B server for tests: answers what the real client asks when it records a run, and remembers it.

It knows the calls of `wandb` 0.31 (the client writes each into GraphQL by name): the resume status and upsert of a run,
its file links, and the `file_stream` posts that carry history, summary and exit code. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

from tests.integration.wandb.wandb_artifacts import ArtifactAnswers

Behaviour = Literal["answer", "fail", "refuse", "hang"]


@dataclass
class RecordedRun:
    """What the server was told of one run."""

    upserts: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    def rows(self, key: str) -> list[dict[str, Any]]:
        """The history rows that hold `key`, in order."""
        return [row for row in self.history if key in row]


class WandbServer:
    """A server for the length of a `with` block.

    Attributes:
        behaviour: "answer"; "fail" (status 500, which the client retries); "refuse" (status 401, which it does not);
            "hang" (no answer until the block ends).
        runs: What was recorded, by run id.
        bodies: Every request's path and body, to search for what must not be there.
        views: The variables of each workspace or report that was saved.
        kept: Artifacts and alerts.
    """

    def __init__(self) -> None:
        self.behaviour: Behaviour = "answer"
        self.runs: dict[str, RecordedRun] = {}
        self.bodies: list[tuple[str, str]] = []
        self.views: list[dict[str, Any]] = []
        self.kept = ArtifactAnswers()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._http: _HttpServer | None = None

    def __enter__(self) -> WandbServer:
        self._http = _HttpServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Goes away: later connections are refused. May be called twice."""
        self.closing.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    @property
    def url(self) -> str:
        """Address for `WANDB_BASE_URL`."""
        assert self._http is not None
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def answer(self, path: str, body: str) -> dict[str, Any]:
        """Records one request and returns the JSON to answer with."""
        with self.lock:
            self.bodies.append((path, body))
            if path == "/graphql":
                request = json.loads(body)
                answers = {
                    "RunResumeStatus": self._resume_status,
                    "UpsertBucket": self._upsert,
                    "CreateRunFiles": self._file_links,
                    "Viewer": self._viewer,
                    "GetDefaultEntity": self._viewer,
                    "GetProjects": self._projects,
                    "ProjectInternalId": lambda _: {"project": {"id": "p", "internalId": "1"}},
                    "UpsertView2": self._upsert_view,
                    "upsertView": self._upsert_view,
                    **self.kept.answers(self.url),
                }
                named = re.match(r"\s*(?:query|mutation) (\w+)", request["query"])  # not all calls say it beside
                known = answers.get(request.get("operationName") or (named.group(1) if named else ""))
                return {"data": known(request.get("variables") or {}) if known else {}}
            if path.endswith("/file_stream"):
                self._stream(path.split("/")[-2], json.loads(body))
            return {}

    def _resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        run = self.runs.get(name)
        bucket = run and {
            "id": f"id-{name}",
            "name": name,
            "displayName": name,
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps(run.config),
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "tags": [],
            "notes": None,
            "wandbConfig": json.dumps({"t": {}}),
        }
        entity = {"id": "e", "name": "team"}
        return {"model": {"id": "p", "name": variables["project"], "entity": entity, "bucket": bucket}}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, RecordedRun())
        run.upserts.append({key: value for key, value in variables.items() if value is not None})
        run.config.update(json.loads(variables.get("config") or "{}"))
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "team"}}
        bucket = {"id": f"id-{name}", "name": name, "displayName": name, "project": project}
        bucket |= {"config": json.dumps(run.config), "historyLineCount": len(run.history)}
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": "team"}}]}
        return {"viewer": {"id": "u", "username": "team", "entity": "team", "flags": "{}", "teams": teams} | variables}

    def _projects(self, variables: dict[str, Any]) -> dict[str, Any]:
        node = {"id": "p", "name": "llm-sweeps", "entityName": variables["entity"], "createdAt": "2026-01-01T00:00:00Z"}
        page = {"endCursor": None, "hasNextPage": False}
        return {
            "models": {
                "edges": [{"node": {**node, "isBenchmark": False, "user": None}, "cursor": "c"}],
                "pageInfo": page,
            }
        }

    def _upsert_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.views.append({key: value for key, value in variables.items() if value is not None})
        view = {name: variables.get(name) for name in ("type", "name", "displayName", "description", "spec")}
        view["id"] = variables.get("id") or f"view-{len(self.views) - 1}"
        project = {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]}
        now = "2026-01-01T00:00:00Z"
        return {"upsertView": {"view": {**view, "project": project, "updatedAt": now}, "inserted": True}}

    def _file_links(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": f"id-{variables['run']}", "uploadHeaders": [], "files": files}}

    def _stream(self, name: str, posted: dict[str, Any]) -> None:
        run = self.runs.setdefault(name, RecordedRun())
        files = posted.get("files") or {}
        run.history += [json.loads(line) for line in files.get("wandb-history.jsonl", {}).get("content", [])]
        for line in files.get("wandb-summary.json", {}).get("content", []):
            run.summary = json.loads(line)
        if posted.get("complete"):
            run.exit_code = posted["exitcode"]


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the client may leave as it likes
            super().handle_error(request, client_address)


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if server.behaviour == "hang":
                server.closing.wait()
            if server.closing.is_set():
                self.close_connection = True
                return
            status = {"answer": 200, "fail": 500, "refuse": 401}[server.behaviour]
            answer = server.answer(self.path, body.decode(errors="replace")) if status == 200 else {"error": "no"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _respond  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keeps the test output clean."""

    return Handler
