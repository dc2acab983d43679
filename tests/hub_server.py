"""
A small Hub on this machine: the part of the Hub's protocol by which `huggingface_hub` pushes and loads models.

Point a client at it by `HF_ENDPOINT=hub.url`, with `HF_HUB_DISABLE_XET=1` as it stores large files by git LFS alone.
As on the real Hub, these lie on another host, which clients are redirected to.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml

# the common ones of those that the Hub takes for `license`
LICENSES = ["apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "mpl-2.0"]
LICENSES += ["agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "openrail", "unlicense", "unknown", "other"]

REPOSITORY = r"(?P<name>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
# whom a token belongs to
USERS = {"hf_author": "author", "hf_stranger": "stranger"}


class HubError(Exception):
    """An answer that is an error; `code` is what tells `huggingface_hub` which."""

    def __init__(self, status: HTTPStatus, message: str, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers


class ConnectionDropped(Exception):
    """The connection ends in the middle of a body, on purpose."""


@dataclass
class Reply:
    body: bytes = b""
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class File:
    """A file of a commit: its content, and the hash that names it."""

    content: bytes
    is_large: bool

    @property
    def oid(self) -> str:
        if self.is_large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    """Its commits, `{commit: {path: file}}`, and what its branches and tags stand at."""

    private: bool = False
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    references: dict[str, str] = field(default_factory=dict)

    def commit(self, message: str, files: dict[str, File], branch: str = "main") -> str:
        listing = [f"{path} {file.oid}" for path, file in sorted(files.items())]
        commit = hashlib.sha1("\n".join([str(len(self.commits)), message, *listing]).encode()).hexdigest()
        self.commits[commit] = files
        self.messages.append(message)
        self.references[branch] = commit
        return commit

    def find(self, revision: str) -> str:
        commit = self.references.get(revision, revision)
        if commit not in self.commits:
            raise HubError(HTTPStatus.NOT_FOUND, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit


@dataclass
class Fault:
    """The connection of the next `times` requests of a method to a path with `path` in it drops in mid body."""

    method: str
    path: str
    times: int


class Hub:
    """
    The state of the Hub, and the servers that answer for it while it is used as a context.

    `requests` lists what was asked, `"GET /path"`, and `storage_headers` what the storage host was sent.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.storage_headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "Hub":
        self.servers = [_Server(self, handler) for handler in (HubHandler, StorageHandler)]
        # two names, as older clients take hosts of one name for the same
        self.url, self.storage_url = (
            f"http://{name}:{server.server_port}"
            for name, server in zip(("127.0.0.1", "localhost"), self.servers, strict=True)
        )
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    @contextlib.contextmanager
    def dropping(self, method: str, path: str, times: int = 1) -> Iterator[Fault]:
        """Drop the next `times` such connections in the middle of what is sent: half of it arrives."""
        fault = Fault(method, path, times)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            self.faults.remove(fault)

    def takes_fault(self, method: str, path: str) -> bool:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.path in path and fault.times > 0:
                    fault.times -= 1
                    return True
        return False

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """What a repository holds."""
        repository = self.repositories[name]
        return {path: file.content for path, file in repository.commits[repository.find(revision)].items()}


class _Server(ThreadingHTTPServer):
    def __init__(self, hub: Hub, handler: type["Handler"]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub


class Handler(BaseHTTPRequestHandler):
    """Finds the method that answers a request, and drops the connection where a test wants it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    routes: list[tuple[str, str, Callable[..., Reply]]]

    def answer(self) -> None:
        self.hub = self.server.hub
        self.hub.requests.append(f"{self.command} {self.path}")
        self.drops = self.command != "HEAD" and self.hub.takes_fault(self.command, self.path)
        try:
            self.body = self.receive()
            self.send(self.find_reply())
        except HubError as error:
            body = json.dumps({"error": str(error)}).encode()
            self.send(Reply(body, error.status, error.headers))
        except (ConnectionDropped, ConnectionError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def find_reply(self) -> Reply:
        path = urlsplit(self.path).path
        for method, pattern, function in self.routes:
            if self.command == method and (match := re.fullmatch(pattern, path)):
                return function(self, **{name: unquote(value) for name, value in match.groupdict().items()})
        raise HubError(HTTPStatus.NOT_IMPLEMENTED, f"this Hub knows no {self.command} {path}")

    def receive(self) -> bytes:
        length = int(self.headers.get("Content-Length", 0))
        if self.drops and length:
            self.rfile.read(length // 2)
            raise ConnectionDropped
        return self.rfile.read(length)

    def send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in ({"Content-Length": str(len(reply.body))} | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.drops:
            self.wfile.write(reply.body[: len(reply.body) // 2])
            raise ConnectionDropped
        self.wfile.write(reply.body)

    def content(self, content: bytes, **headers: str) -> Reply:
        """The content of a file, or the rest of it that a resumed download asks for."""
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return Reply(content[start:], HTTPStatus.PARTIAL_CONTENT, headers)
        return Reply(content, headers={"Accept-Ranges": "bytes"} | headers)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def as_json(value: Any, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Reply:
    return Reply(json.dumps(value).encode(), status, {"Content-Type": "application/json"} | headers)


class HubHandler(Handler):
    """The Hub itself: repositories, commits, small files."""

    @property
    def user(self) -> str | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in USERS:
            raise HubError(HTTPStatus.UNAUTHORIZED, "Invalid credentials in Authorization header")
        return USERS.get(token)

    def repository(self, name: str) -> Repository:
        """One that the user may read. The Hub does not tell a private one from one that is not there."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and self.user != name.split("/")[0]):
            status = HTTPStatus.UNAUTHORIZED if self.user is None else HTTPStatus.NOT_FOUND
            raise HubError(status, "Repository not found", "RepoNotFound")
        return repository

    def own_repository(self, name: str) -> Repository:
        """One that the user may write to."""
        repository = self.repository(name)
        self.check_owner(name.split("/")[0])
        return repository

    def check_owner(self, namespace: str) -> None:
        if self.user is None:
            raise HubError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
        if self.user != namespace:
            raise HubError(HTTPStatus.FORBIDDEN, f"You don't have the rights to write under {namespace}")

    def json(self) -> Any:
        return json.loads(self.body)

    def whoami(self) -> Reply:
        if self.user is None:
            raise HubError(HTTPStatus.UNAUTHORIZED, "Invalid username or password.")
        return as_json({"type": "user", "name": self.user, "orgs": []})

    def create_repository(self) -> Reply:
        request = self.json()
        namespace = request.get("organization") or self.user
        self.check_owner(namespace)
        name = f"{namespace}/{request['name']}"
        status = HTTPStatus.OK
        if name in self.hub.repositories:
            status = HTTPStatus.CONFLICT
        else:
            # a client says it by one name or, in newer versions, by the other
            private = request.get("visibility") == "private" or bool(request.get("private"))
            self.hub.repositories[name] = Repository(private)
            self.hub.repositories[name].commit("initial commit", {".gitattributes": File(b"* -text\n", False)})
        return as_json({"url": f"{self.hub.url}/{name}", "name": name}, status)

    def create_branch(self, name: str, revision: str) -> Reply:
        return self.create_reference(name, revision, self.json().get("startingPoint", "main"))

    def create_tag(self, name: str, revision: str) -> Reply:
        return self.create_reference(name, self.json()["tag"], revision)

    def create_reference(self, name: str, reference: str, revision: str) -> Reply:
        repository = self.own_repository(name)
        if reference in repository.references:
            raise HubError(HTTPStatus.CONFLICT, f"Reference already exists: {reference}")
        repository.references[reference] = repository.find(revision)
        return as_json({})

    def model_info(self, name: str, revision: str = "main") -> Reply:
        repository = self.repository(name)
        commit = repository.find(revision)
        files = repository.commits[commit]
        card = read_front_matter(files["README.md"].content.decode()) if "README.md" in files else {}
        info = {
            "id": name,
            "sha": commit,
            "private": repository.private,
            "tags": card.get("tags", []),
            "cardData": card,
            "siblings": [{"rfilename": path} for path in files],
        }
        return as_json(info | {key: card[key] for key in ("pipeline_tag", "library_name") if key in card})

    def tree(self, name: str, revision: str, folder: str = "") -> Reply:
        repository = self.repository(name)
        files = repository.commits[repository.find(revision)]
        prefix = f"{folder}/" if folder else ""
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        entries: dict[str, dict[str, Any]] = {}
        for path, file in files.items():
            if not path.startswith(prefix):
                continue
            if "/" in path.removeprefix(prefix) and not recursive:
                directory = prefix + path.removeprefix(prefix).split("/")[0]
                entries[directory] = {"type": "directory", "path": directory, "oid": "0" * 40}
                continue
            entries[path] = {"type": "file", "path": path, "size": len(file.content), "oid": file.oid}
            if file.is_large:
                entries[path]["lfs"] = {"oid": file.oid, "size": len(file.content), "pointerSize": 134}
        if folder and not entries:
            raise HubError(HTTPStatus.NOT_FOUND, f"{folder} does not exist on {revision}", "EntryNotFound")
        return as_json(list(entries.values()))

    def resolve(self, name: str, revision: str, path: str) -> Reply:
        repository = self.repository(name)
        commit = repository.find(revision)
        file = repository.commits[commit].get(path)
        if file is None:
            raise HubError(HTTPStatus.NOT_FOUND, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit})
        if not file.is_large:
            return self.content(file.content, **{"ETag": f'"{file.oid}"', "X-Repo-Commit": commit})
        headers = {
            "Location": f"{self.hub.storage_url}/objects/{file.oid}/{quote(path)}",
            "X-Linked-ETag": f'"{file.oid}"',
            "X-Linked-Size": str(len(file.content)),
            "X-Repo-Commit": commit,
        }
        return Reply(status=HTTPStatus.FOUND, headers=headers)

    def preupload(self, name: str, revision: str) -> Reply:
        """Say how each file is to be sent: within the commit, or, if it is binary, to the storage before."""
        repository = self.own_repository(name)
        present = repository.commits[repository.find(revision)]
        answers = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if b"\0" in base64.b64decode(file["sample"]) else "regular",
                "shouldIgnore": False,
                "oid": present[file["path"]].oid if file["path"] in present else None,
            }
            for file in self.json()["files"]
        ]
        return as_json({"files": answers})

    def lfs_batch(self, name: str) -> Reply:
        self.own_repository(name)
        objects = []
        for wanted in self.json()["objects"]:
            entry: dict[str, Any] = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                entry["actions"] = {
                    "upload": {"href": f"{self.hub.storage_url}/objects/{wanted['oid']}"},
                    "verify": {"href": f"{self.hub.url}/{name}.git/info/lfs/objects/verify"},
                }
            objects.append(entry)
        return as_json({"transfer": "basic", "objects": objects})

    def lfs_verify(self, name: str) -> Reply:
        self.own_repository(name)
        wanted = self.json()
        if len(self.hub.objects.get(wanted["oid"], b"")) != wanted["size"]:
            raise HubError(HTTPStatus.NOT_FOUND, f"no object {wanted['oid']}")
        return as_json({})

    def commit(self, name: str, revision: str) -> Reply:
        repository = self.own_repository(name)
        with self.hub.lock:
            files = dict(repository.commits[repository.find(revision)])
            summary = ""
            for line in self.body.splitlines():
                operation = json.loads(line)
                value = operation["value"]
                if operation["key"] == "header":
                    summary = value["summary"]
                elif operation["key"] == "file":
                    files[value["path"]] = File(base64.b64decode(value["content"]), is_large=False)
                elif operation["key"] == "lfsFile":
                    if value["oid"] not in self.hub.objects:
                        raise HubError(HTTPStatus.BAD_REQUEST, f"{value['path']}: its content was not uploaded")
                    files[value["path"]] = File(self.hub.objects[value["oid"]], is_large=True)
                else:
                    raise HubError(HTTPStatus.NOT_IMPLEMENTED, f"this Hub knows no {operation['key']}")
            if "README.md" in files and (errors := card_errors(files["README.md"].content.decode())):
                raise HubError(HTTPStatus.BAD_REQUEST, "; ".join(errors))
            commit = repository.commit(summary, files, revision)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        return as_json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def validate_yaml(self) -> Reply:
        content = self.json()["content"]
        errors = [{"message": message} for message in card_errors(content)]
        missing = {"message": "empty or missing yaml metadata in repo card"}
        answer = {"errors": errors, "warnings": [] if content.startswith("---") else [missing]}
        return as_json(answer, HTTPStatus.BAD_REQUEST if errors else HTTPStatus.OK)

    routes = [
        ("GET", "/api/whoami-v2", whoami),
        ("POST", "/api/repos/create", create_repository),
        ("POST", "/api/validate-yaml", validate_yaml),
        ("GET", f"/api/models/{REPOSITORY}", model_info),
        ("GET", f"/api/models/{REPOSITORY}/revision/{REVISION}", model_info),
        ("GET", f"/api/models/{REPOSITORY}/tree/{REVISION}", tree),
        ("GET", f"/api/models/{REPOSITORY}/tree/{REVISION}/(?P<folder>.+)", tree),
        ("POST", f"/api/models/{REPOSITORY}/branch/{REVISION}", create_branch),
        ("POST", f"/api/models/{REPOSITORY}/tag/{REVISION}", create_tag),
        ("POST", f"/api/models/{REPOSITORY}/preupload/{REVISION}", preupload),
        ("POST", f"/api/models/{REPOSITORY}/commit/{REVISION}", commit),
        ("POST", f"/{REPOSITORY}[.]git/info/lfs/objects/batch", lfs_batch),
        ("POST", f"/{REPOSITORY}[.]git/info/lfs/objects/verify", lfs_verify),
        ("GET", f"/{REPOSITORY}/resolve/{REVISION}/(?P<path>.+)", resolve),
        ("HEAD", f"/{REPOSITORY}/resolve/{REVISION}/(?P<path>.+)", resolve),
    ]


class StorageHandler(Handler):
    """The host of large files. Whoever has the address of one may read it, so no token belongs here."""

    def answer(self) -> None:
        self.server.hub.storage_headers.append(dict(self.headers))
        super().answer()

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def download(self, oid: str, path: str) -> Reply:
        return self.content(self.hub.objects[oid], ETag=f'"{oid}"')

    def upload(self, oid: str) -> Reply:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(HTTPStatus.BAD_REQUEST, f"the content is not that of {oid}")
        self.hub.objects[oid] = self.body
        return Reply()

    routes = [
        ("GET", "/objects/(?P<oid>[0-9a-f]{64})/(?P<path>.+)", download),
        ("PUT", "/objects/(?P<oid>[0-9a-f]{64})", upload),
    ]


def read_front_matter(card: str) -> Any:
    match = re.match(r"---\n(.*?)\n---(\n|$)", card, re.DOTALL)
    return yaml.safe_load(match[1]) or {} if match else {}


def card_errors(card: str) -> list[str]:
    """What the Hub refuses in the metadata of a model card, after its published specification."""
    try:
        metadata = read_front_matter(card)
    except yaml.YAMLError as error:
        return [f"the metadata are no YAML: {error}"]
    if not isinstance(metadata, dict):
        return ["the metadata must be a mapping"]
    errors = []

    def check_strings(name: str, pattern: str) -> None:
        values = metadata.get(name, [])
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                errors.append(f'"{name}" with value {value!r} is not valid')

    repository_id = r"[\w.-]+(/[\w.-]+)?"
    check_strings("language", r"[a-z]{2,3}(-\w+)?|multilingual|code")
    check_strings("license", "|".join(map(re.escape, LICENSES)))
    check_strings("datasets", repository_id)
    check_strings("base_model", repository_id)
    check_strings("pipeline_tag", r"[a-z0-9-]+")
    for name in ("tags", "metrics", "library_name"):
        check_strings(name, ".+")

    def check_fields(place: str, value: Any, required: dict[str, type | tuple[type, ...]]) -> bool:
        if not isinstance(value, dict):
            errors.append(f'"{place}" must be of type object')
            return False
        wrong = [name for name, kind in required.items() if not isinstance(value.get(name), kind) or value[name] == ""]
        errors.extend(f'"{place}.{name}" is required' for name in wrong)
        return not wrong

    index = metadata.get("model-index", [])
    if not isinstance(index, list):
        return [*errors, '"model-index" must be an array']
    for model_number, model in enumerate(index):
        place = f"model-index[{model_number}]"
        if not check_fields(place, model, {"name": str, "results": list}):
            continue
        for number, result in enumerate(model["results"]):
            result_place = f"{place}.results[{number}]"
            if check_fields(result_place, result, {"task": dict, "dataset": dict, "metrics": list}):
                check_fields(f"{result_place}.task", result["task"], {"type": str})
                check_fields(f"{result_place}.dataset", result["dataset"], {"type": str, "name": str})
                for metric_number, metric in enumerate(result["metrics"]):
                    metric_place = f"{result_place}.metrics[{metric_number}]"
                    check_fields(metric_place, metric, {"type": str, "value": (int, float, str, list, dict)})
    return errors
