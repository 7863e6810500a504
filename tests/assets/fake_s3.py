"""A fake S3 server on loopback with the calls that the storage uses: one bucket, kept in a dictionary."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "images"
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "loopback-key-id", "loopback-key"
KEYS_PER_PAGE = 2
LAST_MODIFIED = "Wed, 21 Oct 2026 07:28:00 GMT"


@dataclass
class S3Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query_params(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)


@dataclass
class FakeS3:
    """The state of the server. `forced_status`: the status of every response, `after` so many bytes of a body."""

    endpoint: str = ""
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    requests: list[S3Request] = field(default_factory=list)
    forced_status: int | None = None
    truncate_after: int | None = None
    connections: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = field(default_factory=dict)

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections[asyncio.current_task()] = writer
        try:
            while request := await _read_request(reader):
                self.requests.append(request)
                status, headers, body = self.build_response(request)
                lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", *headers]
                sent = b"" if request.method == "HEAD" else body[: self.truncate_after]
                writer.write("\r\n".join([*lines, "", ""]).encode() + sent)
                await writer.drain()
                if self.truncate_after is not None:
                    return
        except ConnectionError:
            """The client has closed the connection within the response."""
        finally:
            del self.connections[asyncio.current_task()]
            writer.close()

    def build_response(self, request: S3Request) -> tuple[int, list[str], bytes]:
        if f"Credential={ACCESS_KEY_ID}/" not in request.headers.get("authorization", ""):
            return 403, [], b"<Error><Code>InvalidAccessKeyId</Code></Error>"
        if self.forced_status:
            return (
                self.forced_status,
                [],
                b"<Error><Code>Trouble</Code><AWSAccessKeyId>loopback-key-id</AWSAccessKeyId></Error>",
            )
        _, bucket, key = (*request.path.split("/", 2), "")[:3]
        if bucket != BUCKET:
            return 404, [], b"<Error><Code>NoSuchBucket</Code></Error>"
        if not key:
            return (
                200,
                [],
                self._delete_objects(request) if "delete" in request.query_params else self._list_objects(request),
            )
        if request.method == "PUT":
            self.objects[key] = request.body, request.headers.get("content-type", "")
            return 200, ['etag: "1"'], b""
        if key not in self.objects:
            return 404, [], b"<Error><Code>NoSuchKey</Code></Error>"
        return self._read_object(request, *self.objects[key])

    def _read_object(self, request: S3Request, body: bytes, content_type: str) -> tuple[int, list[str], bytes]:
        etag = f'"{sha256(body).hexdigest()}"'
        headers = [f"etag: {etag}", f"last-modified: {LAST_MODIFIED}", f"content-type: {content_type}"]
        if request.headers.get("if-match", etag) != etag:
            return 412, [], b"<Error><Code>PreconditionFailed</Code></Error>"
        if "range" not in request.headers:
            return 200, headers, body
        start, end = (int(position) for position in request.headers["range"].removeprefix("bytes=").split("-"))
        content = body[start : end + 1]
        return 206, [*headers, f"content-range: bytes {start}-{start + len(content) - 1}/{len(body)}"], content

    def _delete_objects(self, request: S3Request) -> bytes:
        keys = re.findall(r"<Key>([^<]*)</Key>", request.body.decode())
        for key in keys:
            self.objects.pop(key, None)
        return (
            f"<DeleteResult>{''.join(f'<Deleted><Key>{key}</Key></Deleted>' for key in keys)}</DeleteResult>".encode()
        )

    def _list_objects(self, request: S3Request) -> bytes:
        """Lists in pages, as S3 does, so that the tests cover paging."""
        prefix, after = request.query_params["prefix"][0], request.query_params.get("continuation-token", [""])[0]
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        contents = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-10-21T07:28:00.000Z</LastModified>"
            f"<ETag>1</ETag><Size>{len(self.objects[key][0])}</Size></Contents>"
            for key in keys[:KEYS_PER_PAGE]
        )
        next_token = (
            f"<NextContinuationToken>{keys[KEYS_PER_PAGE - 1]}</NextContinuationToken>"
            if len(keys) > KEYS_PER_PAGE
            else ""
        )
        is_truncated = f"<IsTruncated>{str(bool(next_token)).lower()}</IsTruncated>"
        return f"<ListBucketResult>{is_truncated}{next_token}{contents}</ListBucketResult>".encode()


async def _read_request(reader: asyncio.StreamReader) -> S3Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return S3Request(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def run_fake_s3() -> AsyncIterator[FakeS3]:
    s3 = FakeS3()
    server = await asyncio.start_server(s3.serve_connection, "127.0.0.1", 0, limit=1 << 20)
    s3.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield s3
    finally:
        server.close()
        unfinished = [task for task in s3.connections if task]
        for writer in s3.connections.values():
            writer.transport.abort()
        await asyncio.gather(*unfinished)


@contextmanager
def run_fake_s3_in_thread() -> Iterator[FakeS3]:
    """Runs the server in a thread, for a gateway in a process of its own."""
    started, stop_requested = threading.Event(), threading.Event()
    servers: list[FakeS3] = []

    async def serve() -> None:
        async with run_fake_s3() as server:
            servers.append(server)
            started.set()
            await asyncio.to_thread(stop_requested.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield servers[0]
    finally:
        stop_requested.set()
        thread.join()
