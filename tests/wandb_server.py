"""A small W&B server on loopback: the endpoints that wandb 0.31's client calls to send runs, files and artifacts.

It keeps each run as W&B does: `UpsertBucket` creates or updates it, `RunResumeStatus` returns its state to a client,
`file_stream` writes lines from the client's offset on, and files are put under their names.

    with WandbServer() as server:
        server.environment  # variables that lead a client to it
        server.runs["3f…"].summary

It also hands out the runs of a sweep, one after the other, to `wandb agent`: `sweep` is the config, `queue` holds the
parameters by the id of the run.
"""

import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

HISTORY = "wandb-history.jsonl"


@dataclass
class Run:
    fields: dict[str, Any] = field(default_factory=dict)  # displayName, groupName, jobType, project, …
    config: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)  # by name: line number -> line
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False

    def lines(self, name: str) -> list[str]:
        return [line for _, line in sorted(self.streams.get(name, {}).items())]

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(HISTORY)]

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.lines("wandb-summary.json") or ["{}"])[-1])


class WandbServer:
    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, dict[str, bytes]] = {}  # the files of each, by its name
        self.unknown: list[str] = []  # operations that it cannot answer
        self.sweep: dict[str, Any] = {}
        self.queue: dict[str, dict[str, Any]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.wandb = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}

    def __enter__(self) -> "WandbServer":
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """Return the data of one GraphQL operation; None if it is unknown."""
        match operation:
            case "Viewer":
                return {"viewer": {"id": "me", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
            case "OrganizationCoreWeaveOrganizationID":  # where system metrics are sent
                return {"entity": None}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "RunResumeStatus":
                known = self.runs.get(variables["name"])
                return {
                    "model": {
                        "id": "p",
                        "name": variables["project"],
                        "bucket": known and _state(variables["name"], known),
                    }
                }
            case "UpsertBucket":
                return {"upsertBucket": self._upsert(variables)}
            case "CreateRunFiles":
                urls = [
                    {"name": name, "uploadUrl": f"{self.url}/run/{variables['run']}/{name}"}
                    for name in variables["files"]
                ]
                return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": urls}}
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "CreateArtifact":
                name = variables["input"]["artifactCollectionName"]
                self.artifacts[name] = {}
                sequence = {"latestArtifact": None}
                return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": sequence}}}
            case "CreateArtifactManifest":
                file = self._upload(variables["artifactID"], variables["name"])
                return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}
            case "CreateArtifactFiles":
                nodes = [self._upload(spec["artifactID"], spec["name"]) for spec in variables["input"]["artifactFiles"]]
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "SweepWithRuns":
                sweep = {"id": "s", "name": variables["sweep"], "config": json.dumps(self.sweep), "runs": {"edges": []}}
                return {"project": {"sweep": sweep}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "a"}}}
            case "Heartbeat":
                return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(self._commands(variables))}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}
        return None

    def _commands(self, variables: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what an agent is to do: nothing while it has a run at work."""
        if json.loads(variables["runState"]):
            return []
        if not self.queue:
            return [{"type": "exit"}]
        run_id = next(iter(self.queue))
        args = {key: {"value": value} for key, value in self.queue.pop(run_id).items()}
        return [{"type": "run", "run_id": run_id, "args": args, "program": self.sweep["program"]}]

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, Run())
        run.fields |= {key: value for key, value in variables.items() if value is not None}
        run.config |= {key: entry["value"] for key, entry in json.loads(variables["config"] or "{}").items()}
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "me"}}
        return {"bucket": {**_state(name, run), "project": project}, "inserted": inserted}

    def _upload(self, artifact: str, name: str) -> dict[str, Any]:
        place = {
            "uploadUrl": f"{self.url}/artifact/{artifact}/{name}",
            "uploadHeaders": [],
            "uploadMultipartUrls": None,
        }
        return {
            "id": name,
            "name": name,
            "displayName": name,
            "storagePath": name,
            "artifact": {"id": artifact},
        } | place


def _state(name: str, run: Run) -> dict[str, Any]:
    """Return the state of a run as the server sends it."""
    config = json.dumps({key: {"value": value} for key, value in run.config.items()})
    history = run.lines(HISTORY)
    return {
        "id": name,
        "name": name,
        "displayName": run.fields.get("displayName"),
        "description": None,
        "sweepName": None,
        "summaryMetrics": json.dumps(run.summary),
        "config": config,
        "tags": [],
        "notes": None,
        "wandbConfig": json.dumps({"t": run.config.get("_wandb", {}).get("t", {})}),
        "historyLineCount": len(history),
        "eventsLineCount": 0,
        "logLineCount": 0,
        "historyTail": json.dumps(history[-1:]),
        "eventsTail": "[]",
    }


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        wandb: WandbServer = self.server.wandb  # type: ignore[attr-defined]
        body = self._body()
        if self.path.startswith("/graphql"):
            request = json.loads(body)
            operation = re.match(r"\s*(?:query|mutation)\s+(\w+)", request["query"])[1]  # type: ignore[index]
            data = wandb.answer(operation, request.get("variables") or {})
            if data is None:
                wandb.unknown.append(operation)
                return self._answer(400, {"errors": [{"message": f"unknown operation {operation}"}]})
            return self._answer(200, {"data": data})
        if self.path.endswith("/file_stream"):
            run, sent = wandb.runs[self.path.split("/")[-2]], json.loads(body)
            for name, chunk in (sent.get("files") or {}).items():
                run.streams.setdefault(name, {}).update(enumerate(chunk["content"], chunk["offset"]))
            run.complete = bool(sent.get("complete"))
        self._answer(200, {})  # else telemetry

    def do_PUT(self) -> None:
        wandb: WandbServer = self.server.wandb  # type: ignore[attr-defined]
        kind, owner, name = unquote(self.path).lstrip("/").split("/", 2)
        files = wandb.runs[owner].files if kind == "run" else wandb.artifacts[owner]
        files[name] = self._body()
        self._answer(200, {})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
