"""A hub for tests, on 127.0.0.1: what huggingface_hub asks of one, and a list of what it asked."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """The models of a hub, and what was asked of it.

    models: by name, the content of each file. sizes: for a file too large to be kept, the bytes that it has;
    its content is then its beginning. gated: models that want a token. ignores_range: whether it sends whole
    files whatever was asked. requests: [method, path, status, bytes sent].
    """

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    ignores_range: bool = False
    requests: list[list] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def sent(self, ending: str) -> int:
        """Return the bytes that were sent of files whose names end like this."""
        return sum(number for method, path, _, number in self.requests if path.endswith(ending))


@contextmanager
def serve(hub: Hub):
    """Run the server; yields the hub with its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            if token := self.headers.get("Authorization"):
                hub.tokens.add(token.removeprefix("Bearer "))
            path = unquote(urlsplit(self.path).path)
            assert not (token and path.startswith("/cdn/"))  # tokens are for the hub alone
            if path.startswith("/api/models/"):
                name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
                return self.describe(name, revision)
            if "/resolve/" in path:
                name, _, rest = path[1:].partition("/resolve/")
                revision, _, file = rest.partition("/")
                return self.resolve(name, revision, file)
            if not path.startswith("/cdn/"):
                return self.fail(404, "")
            _, _, name, file = path.split("/", 3)
            return self.send(200, hub.models[name.replace("--", "/")][file], file=file)

        def describe(self, name, revision):
            if name not in hub.models:
                return self.fail(404, "RepoNotFound")
            if revision not in ("", "main", COMMIT):
                return self.fail(404, "RevisionNotFound")
            files = [
                {"rfilename": file, "size": hub.sizes.get(file, len(content))}
                for file, content in hub.models[name].items()
            ]
            return self.send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": files}).encode())

        def resolve(self, name, revision, file):
            if name not in hub.models:
                return self.fail(404, "RepoNotFound")
            if name in hub.gated and not self.headers.get("Authorization"):
                return self.fail(401, "GatedRepo")
            if revision not in ("main", COMMIT):
                return self.fail(404, "RevisionNotFound")
            if file not in hub.models[name]:
                return self.fail(404, "EntryNotFound")
            content = hub.models[name][file]
            size, etag = hub.sizes.get(file, len(content)), sha256(content).hexdigest()
            known = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}
            if file.endswith((".safetensors", ".bin")):  # as large files are, elsewhere
                known |= {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{etag}"'}
                elsewhere = hub.url.replace("127.0.0.1", "localhost")  # another host, as far as tokens go
                location = f"{elsewhere}/cdn/{name.replace('/', '--')}/{file}"
                return self.send(302, b"", {**known, "Location": location})
            return self.send(200, content, known, file=file)

        def fail(self, status, code):
            return self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": f"{code} here"})

        def send(self, status, content, headers=(), file=""):
            size = hub.sizes.get(file, len(content))
            begin, end = 0, size
            asked = self.headers.get("Range")
            if asked and status == 200 and not hub.ignores_range:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                begin, end = int(first), min(int(last or size - 1) + 1, size)
                status, headers = 206, {**dict(headers), "Content-Range": f"bytes {begin}-{end - 1}/{size}"}
            request = [self.command, urlsplit(self.path).path, status, 0]
            hub.requests.append(request)  # before the client can know that it has the whole answer
            self.send_response(status)
            for key, value in {**dict(headers), "Content-Length": str(end - begin)}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                try:
                    for at in range(begin, end, 2**16):
                        part = content[at : min(end, at + 2**16)]
                        part += bytes(min(end, at + 2**16) - at - len(part))
                        self.wfile.write(part)
                        request[3] += len(part)
                except OSError:  # the client has enough
                    self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
