"""A hub on this machine: the few endpoints that a push, a pull and a search of the real client need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest

TOKEN = "hf_" + "a" * 34


class Hub(ThreadingHTTPServer):
    """Repositories by id: each the files of its only branch, and its commit."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Endpoints)
        self.files: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self.private: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        kept = self.files.setdefault(repository, {})
        kept.update(files)
        whole = b"".join(name.encode() + content for name, content in sorted(kept.items()))
        self.commits[repository] = hashlib.sha1(whole).hexdigest()
        return self.commits[repository]


@contextmanager
def serving_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


@contextmanager
def known_hub(patch: pytest.MonkeyPatch, cache: Path) -> Iterator[Hub]:
    """A hub on this machine that the client takes for the real one and that knows us, with its own cache."""
    from huggingface_hub import constants

    with serving_hub() as served:
        patch.setattr(constants, "ENDPOINT", served.address)
        patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", served.address)
        patch.setenv("HF_TOKEN", TOKEN)
        yield served


class _Endpoints(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if name.startswith("stranger/"):
                self._json(403, {"error": "You don't have the rights"})
                return
            self.server.files.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.server.private.add(name)
            self._json(200, {"url": f"{self.server.address}/{name}"})
        elif self.path == "/api/validate-yaml":
            self._json(200, {"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            files = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in _files(body)]
            self._json(200, {"files": files})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            lines = [json.loads(line) for line in body.decode().splitlines() if line.strip()]
            sent = [line["value"] for line in lines if line["key"] == "file"]
            commit = self.server.commit(found[1], {each["path"]: base64.b64decode(each["content"]) for each in sent})
            self._json(200, {"commitUrl": f"{self.server.address}/{found[1]}/commit/{commit}", "commitOid": commit})
        else:
            self._json(404, {"error": self.path})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        address = urlparse(self.path)
        if address.path == "/api/models":
            wanted = parse_qs(address.query).get("filter", [""])[0]
            self._json(200, [self._info(name) for name in self.server.commits if wanted in self._tags(name)])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", address.path):
            if found[1] in self.server.commits:
                self._json(200, self._info(found[1]))
            else:
                self._json(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", address.path):
            files = self.server.files[found[1]].items()
            self._json(200, [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", address.path):
            content = self.server.files.get(found[1], {}).get(found[3])
            if found[1] not in self.server.commits:
                self._json(401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            elif content is None:
                self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            else:
                commit = self.server.commits[found[1]]
                self._send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit})
        else:
            self._json(404, {"error": address.path})

    def _tags(self, name: str) -> str:
        return self.server.files[name].get("README.md", b"").decode().partition("\n# ")[0]

    def _info(self, name: str) -> dict[str, Any]:
        files = [{"rfilename": path} for path in self.server.files[name]]
        return {"id": name, "sha": self.server.commits[name], "siblings": files, "tags": [], "private": False}

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")  # so that no thread outlives the hub
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _files(body: bytes) -> list[dict[str, Any]]:
    return list(json.loads(body)["files"])


def _oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
