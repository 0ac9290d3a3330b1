"""A small Hugging Face hub on loopback: the endpoints that huggingface_hub and transformers call to download.

It answers from a folder tree `<root>/<models|datasets>/<owner>/<name>/<files>`; every repository has one commit, which
all `revisions` name. Large files (by suffix) get the hub's answer: a redirect to another host, with the SHA-256 in the
linked ETag. Tests set faults: `gated` repositories, `damaged` files (bytes that do not match the checksum),
`interrupted` files (the connection breaks once, after that many bytes), `failing` files (503).

    with HubServer(tmp_path) as hub:
        printed = hub.client("from transformers import AutoModel; print(AutoModel.from_pretrained('owner/name'))")
"""

import hashlib
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

LARGE = {".gz", ".parquet", ".safetensors"}


class HubServer:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.revisions = {"main"}
        self.gated: set[str] = set()  # datasets/<owner>/<name>
        self.damaged: set[str] = set()  # datasets/<owner>/<name>/<file>
        self.failing: set[str] = set()
        self.interrupted: dict[str, int] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "HubServer":
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def client(self, code: str, *arguments: str, timeout_s: float = 120, **environment: str) -> str:
        """Return what `code` prints in a fresh process that knows no other hub; its cache is in `root`."""
        settings = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.root / "cache"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        command = [sys.executable, "-W", "error", "-c", code, *arguments]
        run = subprocess.run(
            command,
            env=os.environ | settings | environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout


class _Handler(BaseHTTPRequestHandler):
    @property
    def hub(self) -> HubServer:
        return self.server.hub  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.hub.requests.append((self.command, "/".join(parts), self.headers.get("Range")))
        if parts[0] == "cdn":
            return self._file("/".join(parts[1:]))
        api = parts[0] == "api"
        parts = parts[1:] if api else parts
        kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
        repo, rest = f"{kind}/{'/'.join(parts[:2])}", parts[2:]
        if not (self.hub.root / repo).is_dir():
            return self._answer(401, {"X-Error-Code": "RepoNotFound"})
        if repo in self.hub.gated and "Authorization" not in self.headers:
            return self._answer(401, {"X-Error-Code": "GatedRepo"})
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in self.hub.revisions | {_commit(self.hub.root / repo)}:
            return self._answer(404, {"X-Error-Code": "RevisionNotFound"})
        return self._api(repo, rest) if api else self._resolve(repo, "/".join(rest[2:]))

    def _resolve(self, repo: str, filename: str) -> None:
        path, commit = self.hub.root / repo / filename, {"X-Repo-Commit": _commit(self.hub.root / repo)}
        if f"{repo}/{filename}" in self.hub.failing:
            return self._answer(503, {})
        if not path.is_file():
            return self._answer(404, {"X-Error-Code": "EntryNotFound", **commit})
        if path.suffix not in LARGE:
            return self._file(f"{repo}/{filename}", {"ETag": f'"{_git_sha1(path)}"', **commit})
        other_host = f"http://localhost:{self.hub.port}/cdn/{repo}/{filename}"
        linked = {"X-Linked-Etag": f'"{_sha256(path)}"', "X-Linked-Size": str(path.stat().st_size)}
        return self._answer(302, {"Location": other_host, **linked, **commit})

    def _api(self, repo: str, rest: list[str]) -> None:
        root = self.hub.root / repo
        files = sorted(path for path in root.rglob("*") if path.is_file())
        if rest[:1] == ["tree"]:
            under = root.joinpath(*rest[2:])
            if not under.is_dir():
                return self._answer(404, {"X-Error-Code": "EntryNotFound"})
            inside = files if "recursive=true" in self.path.lower() else sorted(under.iterdir())
            return self._answer(200, {}, json.dumps([_entry(path, root) for path in inside if under in path.parents]))
        info = {"id": repo.split("/", 1)[1], "sha": _commit(root), "private": False, "tags": [], "downloads": 0}
        info["siblings"] = [{"rfilename": str(path.relative_to(root))} for path in files]
        return self._answer(200, {}, json.dumps(info))

    def _file(self, name: str, headers: dict[str, str] | None = None) -> None:
        body = (self.hub.root / name).read_bytes()
        if name in self.hub.damaged:
            body = body[:-1] + bytes([body[-1] ^ 1])
        first_byte = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0]
        start, status = int(first_byte), 206 if "Range" in self.headers else 200
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body) - start), **(headers or {})}.items():
            self.send_header(header, value)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[start : self.hub.interrupted.pop(name, len(body))])

    def _answer(self, status: int, headers: dict[str, str], body: str = "") -> None:
        self.send_response(status)
        for header, value in {"Content-Length": str(len(body.encode())), **headers}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body.encode())


def _entry(path: Path, root: Path) -> dict[str, object]:
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
    entry: dict[str, object] = {"type": "file", "oid": _git_sha1(path), "size": path.stat().st_size, "path": name}
    if path.suffix in LARGE:
        entry["lfs"] = {"oid": _sha256(path), "size": path.stat().st_size, "pointerSize": 134}
    return entry


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git_sha1(path: Path) -> str:
    body = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _commit(root: Path) -> str:
    """One commit a state of the tree."""
    state = [(str(path.relative_to(root)), _sha256(path)) for path in sorted(root.rglob("*")) if path.is_file()]
    return hashlib.sha1(json.dumps(state).encode()).hexdigest()
