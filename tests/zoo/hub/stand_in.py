"""A server that speaks the part of the Hugging Face hub's protocol that uploading and downloading a model needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_token_that_may_write"
LARGE = (".safetensors", ".zip", ".png")
"""What the hub keeps outside git."""


@dataclass
class Repository:
    """Commits, oldest first: (id, files)."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def find(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1] if self.commits else None
        return next((commit for commit in self.commits if commit[0] == revision), None)

    def add(self, files: dict[str, bytes]) -> str:
        commit = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits.append((commit, files))
        return commit


class Hub(ThreadingHTTPServer):
    """The server; `requests` lists the method and path of everything that was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, repo: str, files: dict[str, bytes]) -> str:
        """Add a commit with some files, as a stranger could."""
        return self.repositories.setdefault(repo, Repository()).add(files)


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        for pattern, answer in ROUTES.items():
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                return answer(self, *found.groups())
        return self._fail(404, f"no such page: {self.command} {path}")

    @property
    def is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, text: str, code: str | None = None) -> None:
        headers = {"X-Error-Message": text} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": text}).encode(), {"Content-Type": "application/json", **headers})

    def _readable(self, repo: str) -> Repository | None:
        """Return a repository; the hub says of one that one may not see what it says of one that is not there."""
        found = self.server.repositories.get(repo)
        if found is None or (found.private and not self.is_known):
            self._fail(404 if self.is_known else 401, "Repository not found", "RepoNotFound")
            return None
        return found

    def create(self) -> None:
        if not self.is_known:
            return self._fail(401, "Invalid credentials in Authorization header")
        wanted = json.loads(self.body)
        repo = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{self.server.url}/{repo}"}
        if repo in self.server.repositories:
            return self._json({"error": "You already created this model repo", **url}, 409)
        self.server.repositories[repo] = Repository(wanted.get("visibility") == "private")
        self.server.put(repo, {".gitattributes": b""})
        return self._json(url)

    def validate(self) -> None:
        _, metadata, _ = json.loads(self.body)["content"].split("---\n", 2)
        yaml.safe_load(metadata)
        self._json({"errors": [], "warnings": []})

    def info(self, repo: str, revision: str | None) -> None:
        found = self._readable(repo)
        if found is not None:
            commit, files = found.find(revision or "main")
            self._json({"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in files]})

    def tree(self, repo: str, revision: str) -> None:
        found = self._readable(repo)
        if found is not None:
            _, files = found.find(revision)
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            self._json(entries)

    def preupload(self, repo: str) -> None:
        if not self.is_known:
            return self._fail(403, "Forbidden")
        modes = {True: "lfs", False: "regular"}
        names = [file["path"] for file in json.loads(self.body)["files"]]
        files = [{"path": n, "uploadMode": modes[n.endswith(LARGE)], "shouldIgnore": False} for n in names]
        return self._json({"files": files})

    def batch(self, repo: str) -> None:
        objects = json.loads(self.body)["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.server.url}/large/{each['oid']}", "header": {}}}
        self._json({"transfer": "basic", "objects": objects})

    def store(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.large[oid] = self.body
        self._send(200, b"", {})

    def commit(self, repo: str) -> None:
        files = dict(self.server.repositories[repo].commits[-1][1])
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        commit = self.server.put(repo, files)
        self._json({"commitUrl": f"{self.server.url}/{repo}/commit/{commit}", "commitOid": commit})

    def resolve(self, repo: str, revision: str, name: str) -> None:
        found = self._readable(repo)
        if found is None:
            return None
        at = found.find(revision)
        if at is None:
            return self._fail(404, "Revision not found", "RevisionNotFound")
        commit, files = at
        if name not in files:
            return self._fail(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"'}
        return self._send(200, files[name], headers)


REPO = r"([^/]+/[^/]+)"
ROUTES = {
    r"POST /api/repos/create": Handler.create,
    r"POST /api/validate-yaml": Handler.validate,
    rf"GET /api/models/{REPO}(?:/revision/([^/]+))?": Handler.info,
    rf"GET /api/models/{REPO}/tree/([^/]+)": Handler.tree,
    rf"POST /api/models/{REPO}/preupload/main": Handler.preupload,
    rf"POST /{REPO}\.git/info/lfs/objects/batch": Handler.batch,
    r"PUT /large/([0-9a-f]{64})": Handler.store,
    rf"POST /api/models/{REPO}/commit/main": Handler.commit,
    rf"(?:HEAD|GET) /{REPO}/resolve/([^/]+)/(.+)": Handler.resolve,
}
