"""A server on this machine that answers as OpenML does, and fails as a network does."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class OpenML:
    """Data sets by name, and what is to go wrong.

    ``faults`` maps "list", "data", "features", "qualities" or "download" to a status (404, 412, 503), or to "cut" (the
    connection ends in the middle of the body), "closed" (it ends before the answer) or "silent" (no answer comes).
    """

    def __init__(self) -> None:
        self.sets: dict[str, dict[str, Any]] = {}
        self.faults: dict[str, int | str] = {}
        self.asked: list[str] = []
        self.compressed = True
        self.over = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.over.set()
        self.http.shutdown()
        self._thread.join()
        self.http.server_close()

    def add(
        self, name: str, columns: dict[str, Any], rows: Sequence[Sequence[Any]], md5: str | None = None
    ) -> None:
        """A data set; a column is "real" or a list of categories, and the last one is the target."""
        kinds = [k if isinstance(k, str) else "{" + ",".join(map(quoted, k)) + "}" for k in columns.values()]
        head = [f"@ATTRIBUTE {quoted(c)} {k}" for c, k in zip(columns, kinds, strict=True)]
        lines = [f"@RELATION {name}", *head, "@DATA", *(",".join(map(quoted, row)) for row in rows)]
        body = ("\n".join(lines) + "\n").encode()
        target = list(columns)[-1]
        features = [
            {
                "index": str(i), "name": c, "data_type": "numeric" if isinstance(k, str) else "nominal",
                "is_target": str(c == target).lower(), "is_ignore": "false", "is_row_identifier": "false",
                "number_of_missing_values": str(sum(row[i] == "?" for row in rows)),
            }
            for i, (c, k) in enumerate(columns.items())
        ]  # fmt: skip
        self.sets[name.lower()] = {
            "id": str(len(self.sets) + 1), "body": body, "features": features, "rows": len(rows), "name": name,
            "md5": md5 or hashlib.md5(body).hexdigest(),
        }  # fmt: skip

    def answer(self, path: str) -> tuple[str, dict[str, Any] | bytes | None]:
        """What is asked for, and the answer; None where there is none."""
        parts = path.strip("/").split("/")
        if parts[:2] == ["data", "v1"]:
            return "download", self._by_id(parts[3])["body"]
        parts = parts[4:]  # after api/v1/json/data
        if parts[0] == "list":
            found = self.sets.get(parts[2])
            if found is None or parts[-1] == "deactivated":
                return "list", None
            entry = {"did": found["id"], "name": found["name"], "version": parts[-1], "status": "active"}
            return "list", {"data": {"dataset": [entry]}}
        found = self._by_id(parts[-1])
        if parts[0] == "features":
            return "features", {"data_features": {"feature": found["features"]}}
        if parts[0] == "qualities":
            quality = [{"name": "NumberOfInstances", "value": f"{found['rows']}.0"}]
            return "qualities", {"data_qualities": {"quality": quality}}
        return "data", {
            "data_set_description": {
                "id": found["id"], "name": found["name"], "version": "1", "description": "made", "format": "ARFF",
                "status": "active", "url": f"{self.base}/data/v1/download/{found['id']}/{found['name']}.arff",
                "md5_checksum": found["md5"],
            }
        }  # fmt: skip

    def _by_id(self, number: str) -> dict[str, Any]:
        return next(found for found in self.sets.values() if found["id"] == number)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, answer = server.answer(self.path)
                server.asked.append(kind)
                fault = server.faults.get(kind)
                if fault == "silent":
                    server.over.wait()
                if fault in ("silent", "closed"):
                    self.close_connection = True
                    return
                if isinstance(fault, int) or answer is None:
                    status = fault if isinstance(fault, int) else 412
                    self.sent(status, b'{"error": {"code": "372", "message": "No results"}}')
                    return
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.sent(200, body, cut=fault == "cut")

            def sent(self, status: int, body: bytes, *, cut: bool = False) -> None:
                body = gzip.compress(body) if server.compressed else body
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if server.compressed:
                    self.send_header("Content-Encoding", "gzip")
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def quoted(value: Any) -> str:
    """A value as ARFF has it."""
    text = str(value)
    return f"'{text}'" if set(text) & set(" ,{}%") else text
