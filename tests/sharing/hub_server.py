"""A small Hugging Face hub on loopback, which the real client talks to.

It keeps users, tokens, model repositories, commits, branches, tags and pull requests in memory, and speaks the part of
the hub's protocol that `huggingface_hub` uses to push and to pull: regular files in commits, large files by LFS, or by
Xet into a folder. It shows that the client works from end to end, not that the hub answers identically.
"""

import base64
import hashlib
import json
import re
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "gpl-3.0", "other", "unknown"}
LARGE_SUFFIXES = (".safetensors", ".bin", ".onnx", ".png", ".arrow", ".parquet", ".wasm")
# Bits that mark a file's entry in a Xet shard.
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30


class Blob(NamedTuple):
    """A file: the content of a regular one; of a large one only its hash and size."""

    oid: str
    size: int
    content: bytes | None

    @property
    def is_large(self) -> bool:
        return self.content is None


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    author: str
    files: dict[str, Blob]

    @property
    def date(self) -> str:
        return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@dataclass
class Repo:
    name: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # main, other branches, tags/NAME, refs/pr/N

    def add(self, ref: str, parent: str | None, title: str, author: str, files: dict[str, Blob]) -> Commit:
        key = f"{self.name} {parent} {title} {len(self.commits)} {sorted(files.items())}"
        commit = Commit(hashlib.sha1(key.encode()).hexdigest(), parent, title, author, files)
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        return commit

    def find(self, revision: str) -> Commit:
        oid = self.refs.get(revision) or self.refs.get(f"tags/{revision}") or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]


class HubError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, body: dict | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body


class HubServer:
    """The hub. `with HubServer(folder) as hub:` serves at `hub.url` until the block ends.

    Args:
        folder (`Path`): Where Xet uploads go.

    Attributes:
        users (`dict[str, list[str]]`): Organisations of each user.
        tokens (`dict[str, tuple[str, str]]`): User and role (`"read"` or `"write"`) of each token.
        requests (`list[str]`): Method and path of each request so far.
        before (`Callable`, *optional*): Called with each request's handler and route; may raise [`HubError`], or
            close the connection, to disturb it, or answer in the hub's place and return true.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.users: dict[str, list[str]] = {}
        self.tokens: dict[str, tuple[str, str]] = {}
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.before: Callable[[Any, str], bool | None] | None = None
        self.lock = threading.RLock()
        self._listen(0)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        # Redirects to the same origin would be taken for the file's own headers.
        self.storage_url = f"http://localhost:{self.http.server_port}"

    def __enter__(self) -> "HubServer":
        self._serve()
        return self

    def __exit__(self, *exception: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def _listen(self, port: int) -> None:
        self.http = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (Handler,), {"hub": self}))
        self.http.daemon_threads = True

    def _serve(self) -> None:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Be unreachable for a while."""

        def hang_up(handler: Any, route: str) -> None:
            raise ConnectionResetError

        port, self.before = self.http.server_port, hang_up
        self.__exit__()
        try:
            yield
        finally:
            self._listen(port)
            self._serve()
            self.before = None

    def add_user(self, name: str, organisations: tuple[str, ...] = ()) -> dict[str, str]:
        """Add a user and return tokens by role."""
        self.users[name] = list(organisations)
        tokens = {role: f"hf_{name}_{role}" for role in ("read", "write")}
        self.tokens.update({token: (name, role) for role, token in tokens.items()})
        return tokens

    def files(self, repo: str, revision: str = "main") -> dict[str, Blob]:
        """Return the files of a revision."""
        return self.repos[repo].find(revision).files

    def titles(self, repo: str, revision: str = "main") -> list[str]:
        """Return the titles of a revision's commits, the newest first."""
        return [commit.title for commit in history(self.repos[repo], revision)]

    def xet_hash(self, sha256: str) -> str | None:
        """Find the Xet hash of a large file, in the shards that the client wrote."""
        for shard in (self.folder / "xet" / "xorbs" / "shards").glob("*.mdb"):
            for file_hash, found in read_shard(shard.read_bytes()):
                if found == sha256:
                    return file_hash
        return None


def history(repo: Repo, revision: str) -> Iterator[Commit]:
    oid: str | None = repo.find(revision).oid
    while oid is not None:
        yield repo.commits[oid]
        oid = repo.commits[oid].parent


def read_shard(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (Xet hash, SHA-256) of the files in a shard.

    After a header of 48 bytes stand the files, each a header (hash, flags, number of segments), its segments, a
    verification of each, and a hash of the whole; all records have 48 bytes. A hash of ones ends them.
    """

    def as_hex(part: bytes) -> str:
        return "".join(f"{word:016x}" for word in struct.unpack("<4Q", part))

    position = 48
    while position + 48 <= len(data) and data[position : position + 32] != b"\xff" * 32:
        flags, segments = struct.unpack_from("<II", data, position + 32)
        file_hash = as_hex(data[position : position + 32])
        position += 48 * (1 + segments * (2 if flags & WITH_VERIFICATION else 1))
        if flags & WITH_METADATA:
            yield file_hash, as_hex(data[position : position + 32])
            position += 48


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def check_card(content: str) -> list[str]:
    """Name what the hub would refuse in a card's metadata."""
    match = re.match(r"\s*---\r?\n([\S\s]*?)\r?\n---", content)
    if match is None:
        return []
    try:
        data = yaml.safe_load(match.group(1)) or {}
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"]
    errors = []
    if "license" in data and data["license"] not in LICENSES:
        errors.append(f'"license" must be one of {sorted(LICENSES)}')
    languages = data.get("language", [])
    for language in [languages] if isinstance(languages, str) else languages:
        if not re.fullmatch(r"[a-z]{2,3}|code|multilingual", str(language)):
            errors.append(f'"language" must only contain lowercase ISO 639 codes, got {language!r}')
    for dataset in data.get("datasets", []):
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", dataset):
            errors.append(f'"datasets" must hold ids of datasets, got {dataset!r}')
    for name in ("tags", "datasets", "metrics"):
        if not isinstance(data.get(name, []), list):
            errors.append(f'"{name}" must be an array')
    for model in data.get("model-index", []):
        for result in model.get("results", []):
            if not {"task", "dataset", "metrics"} <= result.keys():
                errors.append('"model-index[0].results[0]" needs task, dataset and metrics')
            elif not all(isinstance(metric["value"], int | float | str) for metric in result["metrics"]):
                errors.append('"model-index[0].results[0].metrics[0].value" is required')
    return errors


ROUTES: list[tuple[str, re.Pattern[str], str]] = []


def route(method: str, pattern: str) -> Callable[[Callable], Callable]:
    """Serve a path with a method; the pattern's groups are percent-decoded arguments of the function."""

    def register(function: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern.replace("REPO", r"([^/]+/[^/]+)")), function.__name__))
        return function

    return register


class Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def serve(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.hub.requests.append(f"{self.command} {url.path}")
        self.body_read = False
        try:
            for method, pattern, name in ROUTES:
                match = pattern.fullmatch(url.path)
                if match and method in (self.command, {"HEAD": "GET"}.get(self.command)):
                    if self.hub.before is not None and self.hub.before(self, name):
                        return
                    getattr(self, name)(*(unquote(group) for group in match.groups() if group is not None))
                    return
            raise HubError(404, f"Cannot {self.command} {url.path}")
        except HubError as error:
            if not self.body_read:
                self.read()
            headers = {"X-Error-Message": error.message.replace("\n", " "), "X-Request-Id": "1"}
            if error.code is not None:
                headers["X-Error-Code"] = error.code
            self.answer(error.body or {"error": error.message}, error.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

    def read(self) -> bytes:
        self.body_read = True
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def json(self) -> Any:
        return json.loads(self.read())

    def answer(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (
            {"Content-Length": str(len(data)), "Content-Type": "application/json"} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def user(self) -> tuple[str | None, str]:
        """Return who asks, and the role of the token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None, "read"
        if token not in self.hub.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[token]

    def may_write(self, namespace: str) -> bool:
        name, role = self.user()
        return role == "write" and namespace in (name, *self.hub.users.get(name or "", []))

    def repo(self, name: str, write: bool = False) -> Repo:
        user, _ = self.user()
        repo = self.hub.repos.get(name)
        namespace = name.split("/")[0]
        if repo is None or (repo.private and namespace not in (user, *self.hub.users.get(user or "", []))):
            raise HubError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write and not self.may_write(namespace):
            raise HubError(403, "You don't have the rights to write to this repository")
        return repo

    # Users and repositories

    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        name, role = self.user()
        if name is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        organisations = [{"type": "org", "name": one} for one in self.hub.users[name]]
        auth = {"accessToken": {"displayName": "test", "role": role}}
        self.answer({"type": "user", "name": name, "fullname": name, "orgs": organisations, "auth": auth})

    @route("POST", "/api/repos/create")
    def create_repo(self) -> None:
        wanted = self.json()
        user, _ = self.user()
        namespace = wanted.get("organization") or user
        if user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        name = f"{namespace}/{wanted['name']}"
        if name in self.hub.repos:
            body = {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
            raise HubError(409, body["error"], body=body)
        if not self.may_write(namespace):
            raise HubError(403, f"You don't have the rights to create a model under the namespace {namespace!r}")
        if wanted.get("type") == "space" and wanted.get("sdk") not in ("static", "docker", "gradio"):
            raise HubError(400, "A Space needs an sdk")
        private = wanted.get("visibility") == "private"
        attributes = Blob(git_oid(b""), 0, b"")
        with self.hub.lock:
            repo = self.hub.repos[name] = Repo(name, private)
            repo.add("main", None, "initial commit", user, {".gitattributes": attributes})
        self.answer({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        errors = [{"message": message} for message in check_card(self.json()["content"])]
        self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    @route("GET", "/api/(?:model|space)s/REPO(?:/revision/([^/]+))?")
    def repo_info(self, name: str, revision: str = "main") -> None:
        repo = self.repo(name)
        commit = repo.find(revision)
        siblings = [{"rfilename": path, "size": blob.size, "blobId": blob.oid} for path, blob in commit.files.items()]
        self.answer(
            {"id": name, "modelId": name, "sha": commit.oid, "author": name.split("/")[0], "private": repo.private,
             "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings,
             "lastModified": commit.date, "createdAt": commit.date}
        )  # fmt: skip

    @route("GET", "/api/(?:model|space)s/REPO/refs")
    def refs(self, name: str) -> None:
        found: dict[str, list] = {"branches": [], "tags": [], "converts": [], "pullRequests": []}
        for ref, oid in self.repo(name).refs.items():
            kind = {"tags": "tags", "refs": "pullRequests"}.get(ref.split("/")[0], "branches")
            short = ref.removeprefix("tags/")
            full = ref if kind == "pullRequests" else f"refs/{'tags' if kind == 'tags' else 'heads'}/{short}"
            found[kind].append({"name": short, "ref": full, "targetCommit": oid})
        self.answer(found)

    @route("GET", "/api/(?:model|space)s/REPO/commits/([^/]+)")
    def commits(self, name: str, revision: str) -> None:
        listed = history(self.repo(name), revision)
        self.answer(
            [{"id": one.oid, "title": one.title, "message": "", "authors": [{"user": one.author}], "date": one.date}
             for one in listed]
        )  # fmt: skip

    @route("POST", "/api/(?:model|space)s/REPO/(branch|tag)/([^/]+)")
    def create_ref(self, name: str, kind: str, ref: str) -> None:
        repo, wanted = self.repo(name, write=True), self.json()
        start = wanted.get("startingPoint", "main") if kind == "branch" else ref
        new = ref if kind == "branch" else f"tags/{wanted['tag']}"
        with self.hub.lock:
            if new in repo.refs:
                raise HubError(409, f"Reference already exists: {new}")
            repo.refs[new] = repo.find(start).oid
        self.answer({})

    # Push

    @route("POST", "/api/(?:model|space)s/REPO/preupload/([^/]+)")
    def preupload(self, name: str, revision: str) -> None:
        is_pr = "create_pr" in self.query
        known = self.repo(name, write=not is_pr).find("main" if is_pr else revision).files
        files = []
        for file in self.json()["files"]:
            large = file["path"].endswith(LARGE_SUFFIXES)
            answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if file["path"] in known:
                answer["oid"] = known[file["path"]].oid
            files.append(answer)
        self.answer({"files": files})

    @route("POST", r"(?:/spaces)?/REPO\.git/info/lfs/objects/batch")
    def lfs_batch(self, name: str) -> None:
        self.repo(name)
        objects: list[dict[str, Any]] = [{"oid": one["oid"], "size": one["size"]} for one in self.json()["objects"]]
        for one in objects:
            if one["oid"] not in self.hub.large:
                one["actions"] = {"upload": {"href": f"{self.hub.storage_url}/storage/{one['oid']}", "header": {}}}
        self.answer({"transfer": "basic", "objects": objects})

    @route("PUT", "/storage/([0-9a-f]{64})")
    def upload(self, sha256: str) -> None:
        data = self.read()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise HubError(400, "The content does not have the hash that was announced")
        self.hub.large[sha256] = data
        self.answer({})

    @route("GET", "/api/(?:model|space)s/REPO/xet-(read|write)-token/([^/]+)")
    def xet_token(self, name: str, kind: str, revision: str) -> None:
        self.repo(name, write=kind == "write" and "create_pr" not in self.query)
        url, expires = f"local://{self.hub.folder}", 4102444800
        headers = {"X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(expires), "X-Xet-Cas-Url": url}
        self.answer({"accessToken": "xet", "exp": expires, "casUrl": url}, headers=headers)

    @route("POST", "/api/(?:model|space)s/REPO/commit/([^/]+)")
    def commit(self, name: str, revision: str) -> None:
        is_pr = "create_pr" in self.query
        user, role = self.user()
        repo = self.repo(name, write=not is_pr)
        if user is None or role != "write":
            raise HubError(403, "A token with write permission is needed")
        lines = [json.loads(line) for line in self.read().splitlines() if line.strip()]
        with self.hub.lock:
            parent = repo.find(revision)
            expected = lines[0]["value"].get("parentCommit")
            if expected is not None and expected != parent.oid and not is_pr:
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(parent.files)
            for line in lines[1:]:
                apply(line["key"], line["value"], files, self.hub)
            number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
            ref = f"refs/pr/{number}" if is_pr else revision
            commit = repo.add(ref, parent.oid, lines[0]["value"]["summary"], user, files)
        answer = {"success": True, "commitOid": commit.oid, "commitUrl": f"{self.hub.url}/{name}/commit/{commit.oid}"}
        if is_pr:
            answer["pullRequestUrl"] = f"{self.hub.url}/{name}/discussions/{number}"
        self.answer(answer)

    # Pull

    @route("GET", "/api/(?:model|space)s/REPO/tree/([^/]+)")
    def tree(self, name: str, revision: str) -> None:
        files = self.repo(name).find(revision).files
        self.answer([described(path, blob) for path, blob in files.items()])

    @route("POST", "/api/(?:model|space)s/REPO/paths-info/([^/]+)")
    def paths_info(self, name: str, revision: str) -> None:
        files = self.repo(name).find(revision).files
        wanted = parse_qs(self.read().decode()).get("paths", [])
        self.answer([described(path, files[path]) for path in wanted if path in files])

    @route("GET", "(?:/spaces)?/REPO/resolve/([^/]+)/(.+)")
    def resolve(self, name: str, revision: str, path: str) -> None:
        commit = self.repo(name).find(revision)
        headers = {"X-Repo-Commit": commit.oid}
        blob = commit.files.get(path)
        if blob is None:
            error = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            self.answer({"error": "Entry not found"}, 404, headers | error)
        elif blob.content is not None:
            self.send_content(blob.content, headers | {"ETag": f'"{blob.oid}"'})
        else:
            headers |= {"X-Linked-Etag": f'"{blob.oid}"', "X-Linked-Size": str(blob.size)}
            headers["Location"] = f"{self.hub.storage_url}/storage/{blob.oid}"
            if blob.oid not in self.hub.large and (xet_hash := self.hub.xet_hash(blob.oid)):
                refresh = f"{self.hub.url}/api/models/{name}/xet-read-token/{commit.oid}"
                headers |= {"X-Xet-Hash": xet_hash, "Link": f'<{refresh}>; rel="xet-auth"'}
            self.answer(b"", 302, headers)

    @route("GET", "/storage/([0-9a-f]{64})")
    def download(self, sha256: str) -> None:
        if sha256 not in self.hub.large:
            raise HubError(404, "No such object")
        self.send_content(self.hub.large[sha256], {"ETag": f'"{sha256}"'})

    def send_content(self, data: bytes, headers: dict[str, str]) -> None:
        """Send a file, or the range of it that is asked for."""
        headers = headers | {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self.answer(data, headers=headers)
            return
        start, end = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        if start >= len(data):
            self.answer(b"", 416, headers | {"Content-Range": f"bytes */{len(data)}"})
            return
        self.answer(data[start : end + 1], 206, headers | {"Content-Range": f"bytes {start}-{end}/{len(data)}"})


def apply(key: str, value: dict[str, Any], files: dict[str, Blob], hub: HubServer) -> None:
    """Apply one operation of a commit."""
    if key == "file":
        content = base64.b64decode(value["content"])
        files[value["path"]] = Blob(git_oid(content), len(content), content)
    elif key == "lfsFile":
        if value["oid"] not in hub.large and hub.xet_hash(value["oid"]) is None:
            raise HubError(400, f"The content of {value['path']} was never uploaded")
        files[value["path"]] = Blob(value["oid"], value["size"], None)
    elif key == "deletedFile":
        if files.pop(value["path"], None) is None:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
    else:
        raise HubError(400, f"Unknown operation {key}")


def described(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": blob.size, "oid": blob.oid}
    if blob.is_large:
        entry["lfs"] = {"oid": blob.oid, "size": blob.size, "pointerSize": 134}
    return entry
