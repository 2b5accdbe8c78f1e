"""Pushing: only to a named repository, private by default, and loud when the hub (a stand-in on loopback) refuses."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Cai = Callable[..., tuple[int, str, str]]


class Hub(ThreadingHTTPServer):
    """Speaks the few requests that an upload makes, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.refused = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _give(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        hub = self.server
        name = "/".join(self.path.split("?")[0].split("/")[3:5])
        if name not in hub.repositories:
            self._give({"error": "Repository not found"}, 404)
            return
        self._give({"id": name, "modelId": name, "private": hub.repositories[name], "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:
        hub, body = self.server, self._body()
        hub.tokens.add(self.headers.get("Authorization"))
        if self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            self._give({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{hub.url}/{next(iter(hub.repositories))}/commit/1"
            self._give({"success": True, "commitUrl": url, "commitOid": "1" * 40})
        elif self.path == "/api/validate-yaml":
            self._give({"errors": [], "warnings": []})
        else:
            self._give({"error": f"unexpected {self.path}"}, 500)

    def _create(self, asked: dict[str, Any]) -> None:
        hub = self.server
        name = f"{asked['organization']}/{asked['name']}"
        if hub.refused:
            self._give({"error": "Forbidden: this token may not write"}, 403)
        elif name in hub.repositories:
            self._give({"error": "exists", "url": f"{hub.url}/{name}"}, 409)
        else:
            private = bool(asked.get("private")) or asked.get("visibility") == "private"
            hub.repositories[name] = private
            self._give({"url": f"{hub.url}/{name}", "name": name})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub()
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    # The tests run with the hub switched off; this one is on loopback.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def exported(cai: Cai, tmp_path: Path) -> Path:
    assert cai("export", "--to", str(tmp_path / "out"))[0] == 0
    return tmp_path / "out"


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_push_makes_a_private_repository_with_exactly_the_exports_files(
    cai: Cai, hub: Hub, exported: Path, kind: str
) -> None:
    flags = ["--dataset"] if kind == "dataset" else []
    code, out, err = cai("push", "me/mine", "--from", str(exported), "--json", *flags)
    assert code == 0, err
    assert json.loads(out)["private"] is True
    assert hub.repositories == {"me/mine": True}
    assert hub.tokens == {"Bearer hf_test"}
    files = {path.name: path.read_bytes() for path in (exported / kind).iterdir()}
    assert hub.files == files


def test_public_is_only_what_was_asked_to_be(cai: Cai, hub: Hub, exported: Path) -> None:
    hub.repositories["me/open"] = False
    code, _, err = cai("push", "me/open", "--from", str(exported))
    assert code == 2
    assert "public already" in err
    assert hub.files == {}
    assert cai("push", "me/open", "--from", str(exported), "--public")[0] == 0
    assert cai("push", "me/new", "--from", str(exported), "--public")[0] == 0
    assert hub.repositories == {"me/open": False, "me/new": False}


def test_a_refusal_of_the_hub_is_an_error_and_leaves_nothing(cai: Cai, hub: Hub, exported: Path) -> None:
    hub.refused = True
    code, _, err = cai("push", "me/mine", "--from", str(exported))
    assert code == 1
    assert "may not write" in err
    assert hub.files == {}


@pytest.mark.parametrize("name", ["mine", "me/mine/too", "me/..", "me/mi ne"])
def test_a_repository_must_be_named_in_full(cai: Cai, hub: Hub, exported: Path, name: str) -> None:
    assert cai("push", name, "--from", str(exported))[0] == 2
    assert hub.repositories == {}


def test_only_an_export_is_pushed(cai: Cai, hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# secrets\n")
    (tmp_path / ".env").write_text("TOKEN=1")
    code, _, err = cai("push", "me/mine", "--from", str(tmp_path))
    assert code == 2
    assert "not a model written by `cai export`" in err
    assert hub.repositories == {}
