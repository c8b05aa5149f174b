"""As much of a W&B server as wandb's own service needs to record a run: GraphQL, the file stream and uploads.

It answers on a loopback port until ``close``, and keeps what it was sent, so that a test can read it.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

ENTITY = "stub"


@dataclass
class Bucket:
    """A run as the server holds it."""

    name: str
    display_name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history]

    @property
    def id(self) -> str:
        return base64.b64encode(f"Run:v1:{self.name}".encode()).decode()


class WandbServer:
    """Serves on a thread of its own.

    Args:
        rewinds: whether it knows ``RewindRun``; else the answer is an error, as from a server without it.
    """

    def __init__(self, *, rewinds: bool = True) -> None:
        self.runs: dict[str, Bucket] = {}
        self.rewinds = rewinds
        self.operations: list[str] = []
        """The GraphQL operations, in order."""
        self.fault: str | None = None
        """``hangs``: nothing is answered any more; ``fails``: with status 500, which wandb tries again after;
        ``refuses``: with status 403."""
        self.stream_fault: str | None = None
        """The same for the rows only: the run can begin."""
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._http = _QuietServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes wandb talk to this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        """Status and document for a request."""
        fault = self.fault or (self.stream_fault if path.endswith("/file_stream") else None)
        if fault == "hangs":
            self._released.wait()
        if fault is not None:
            return 403 if fault == "refuses" else 500, {"error": fault}
        with self._lock:
            if path == "/graphql":
                return 200, self._graphql(json.loads(body))
            if path.endswith("/file_stream"):
                return 200, self._stream(self.runs[path.split("/")[-2]], json.loads(body))
        return 200, {}

    def _graphql(self, question: dict[str, Any]) -> dict[str, Any]:
        operation = question.get("operationName") or ""
        self.operations.append(operation)
        answer = getattr(self, f"_{operation}", None)
        try:
            return {"data": {} if answer is None else answer(question.get("variables") or {})}
        except LookupError as error:
            return {"data": None, "errors": [{"message": str(error)}]}

    def _stream(self, run: Bucket, document: dict[str, Any]) -> dict[str, Any]:
        for name, part in (document.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                run.history[part["offset"] : part["offset"] + len(part["content"])] = part["content"]
            elif name == "wandb-summary.json":
                run.summary = json.loads(part["content"][-1])
        if document.get("complete"):
            run.exits.append(document.get("exitcode", 0))
        return {"limits": {}}

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - the operation's name
        return {
            "viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
        }

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(asked["name"])
        project = {"id": "1", "name": asked["project"], "entity": {"id": "1", "name": ENTITY}}
        return {"model": {**project, "bucket": None if run is None else self._resume_status(run)}}

    def _resume_status(self, run: Bucket) -> dict[str, Any]:
        return {
            "id": run.id,
            "name": run.name,
            "summaryMetrics": json.dumps(run.summary),
            "displayName": run.display_name,
            "logLineCount": 0,
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "historyTail": json.dumps(run.history[-1:]),
            "eventsTail": "[]",
            "config": json.dumps(run.config),
            "tags": [],
            "notes": "",
            "wandbConfig": json.dumps({"t": 1}),
        }

    def _UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(asked["name"])
        inserted = run is None
        if run is None:
            run = self.runs[asked["name"]] = Bucket(asked["name"])
        run.display_name = asked.get("displayName") or run.display_name
        run.config = json.loads(asked.get("config") or "null") or run.config
        return {"upsertBucket": {"bucket": self._described(run, asked), "inserted": inserted}}

    def _RewindRun(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if not self.rewinds:
            raise LookupError("this server does not rewind")
        run = self.runs[asked["runName"]]
        run.history = [line for line in run.history if json.loads(line)["_step"] <= asked["metricValue"]]
        return {"rewindRun": {"rewoundRun": self._described(run, asked)}}

    def _described(self, run: Bucket, asked: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "1", "name": asked["project"], "entity": {"id": "1", "name": ENTITY}}
        return {
            "id": run.id,
            "name": run.name,
            "displayName": run.display_name,
            "config": json.dumps(run.config),
            "project": project,
            "historyLineCount": len(run.history),
        }

    def _CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        files = [{"name": name, "uploadUrl": f"{self.url}/upload"} for name in asked["files"]]
        return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no news."""


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status, document = server.answer(urlsplit(self.path).path, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST  # noqa: N815 - the base class calls them so

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    return Handler
