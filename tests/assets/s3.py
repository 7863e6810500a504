"""As much of S3's wire protocol as our object store speaks, on loopback: one bucket, kept in a dictionary."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "pictures"
KEY_ID, SECRET = "loopback-key-id", "loopback-key"
PAGE = 2
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@dataclass
class Call:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)


@dataclass
class S3:
    """`status`: what every call is answered with instead, `after` so many bytes of a body."""

    endpoint: str = ""
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    status: int | None = None
    cut_after: int | None = None
    open: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open[asyncio.current_task()] = writer
        try:
            while call := await _read(reader):
                self.calls.append(call)
                status, headers, body = self.answer(call)
                lines = [f"HTTP/1.1 {status} Said", f"content-length: {len(body)}", *headers]
                sent = b"" if call.method == "HEAD" else body[: self.cut_after]
                writer.write("\r\n".join([*lines, "", ""]).encode() + sent)
                await writer.drain()
                if self.cut_after is not None:
                    return
        finally:
            del self.open[asyncio.current_task()]
            writer.close()

    def answer(self, call: Call) -> tuple[int, list[str], bytes]:
        if f"Credential={KEY_ID}/" not in call.headers.get("authorization", ""):
            return 403, [], b"<Error><Code>InvalidAccessKeyId</Code></Error>"
        if self.status:
            return (
                self.status,
                [],
                b"<Error><Code>Trouble</Code><AWSAccessKeyId>loopback-key-id</AWSAccessKeyId></Error>",
            )
        _, bucket, key = (*call.path.split("/", 2), "")[:3]
        if bucket != BUCKET:
            return 404, [], b"<Error><Code>NoSuchBucket</Code></Error>"
        if not key:
            return 200, [], self._delete(call) if "delete" in call.query else self._list(call)
        if call.method == "PUT":
            self.objects[key] = call.body, call.headers.get("content-type", "")
            return 200, ['etag: "1"'], b""
        if key not in self.objects:
            return 404, [], b"<Error><Code>NoSuchKey</Code></Error>"
        body, kind = self.objects[key]
        return 200, ['etag: "1"', f"last-modified: {DATE}", f"content-type: {kind}"], body

    def _delete(self, call: Call) -> bytes:
        keys = re.findall(r"<Key>([^<]*)</Key>", call.body.decode())
        for key in keys:
            self.objects.pop(key, None)
        return (
            f"<DeleteResult>{''.join(f'<Deleted><Key>{key}</Key></Deleted>' for key in keys)}</DeleteResult>".encode()
        )

    def _list(self, call: Call) -> bytes:
        """In pages, as the real one does, so that following them is part of the proof."""
        prefix, after = call.query["prefix"][0], call.query.get("continuation-token", [""])[0]
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        found = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-10-21T07:28:00.000Z</LastModified>"
            f"<ETag>1</ETag><Size>{len(self.objects[key][0])}</Size></Contents>"
            for key in keys[:PAGE]
        )
        more = f"<NextContinuationToken>{keys[PAGE - 1]}</NextContinuationToken>" if len(keys) > PAGE else ""
        cut = f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
        return f"<ListBucketResult>{cut}{more}{found}</ListBucketResult>".encode()


async def _read(reader: asyncio.StreamReader) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return None
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    return Call(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))


@asynccontextmanager
async def running() -> AsyncIterator[S3]:
    s3 = S3()
    server = await asyncio.start_server(s3.serve, "127.0.0.1", 0, limit=1 << 20)
    s3.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield s3
    finally:
        server.close()
        unfinished = [task for task in s3.open if task]
        for writer in s3.open.values():
            writer.transport.abort()
        await asyncio.gather(*unfinished)
