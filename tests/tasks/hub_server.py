"""A Hub on loopback: what the hub's client asks of data sets."""

import json
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves data sets at one commit; `main` is that commit."""

    sets: ClassVar[dict[str, dict[str, bytes]]] = {}

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        content = b""
        for name, files in self.sets.items():
            if path in (
                f"/api/datasets/{name}",
                *(f"/api/datasets/{name}/revision/{r}" for r in (COMMIT, "main")),
            ):
                siblings = [{"rfilename": file} for file in files]
                content = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
            elif path == f"/api/datasets/{name}/tree/{COMMIT}":
                tree = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in files.items()]
                content = json.dumps(tree).encode()
            elif path.startswith(prefix := f"/datasets/{name}/resolve/{COMMIT}/"):
                content = files.get(path.removeprefix(prefix), b"")
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)


class Served:
    """The server, running."""

    def __init__(self, sets: dict[str, dict[str, bytes]]) -> None:
        handler: Any = type("OneHub", (Hub,), {"sets": sets})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
