"""Reads ClickHouse's HTTP interface: from the URL, the headers and the body of a request to a statement to run."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import parse_qsl, urlsplit

from clickhouse_engine import SUPPORT_IS_DISABLED, Engine, EngineError, Settings

# What the HTTP interface keeps for itself; every other name in a URL is a setting. Of these, sessions, roles, users
# and quotas mean nothing to a server with one user, and answers always wait for the end of the query.
_RESERVED = {
    "query", "database", "default_format", "query_id", "user", "password", "quota_key", "role", "stacktrace",
    "buffer_size", "wait_end_of_query", "session_id", "session_timeout", "session_check", "close_session",
    "client_protocol_version", "compress", "decompress",
}  # fmt: skip
_PARAMETER = "param_"
_HEAD_BYTES = 1 << 20
_FORM_BYTES_MAX = 64 << 20
_READ_BYTES = 1 << 18
CANNOT_READ_ALL_DATA, QUERY_IS_TOO_LARGE, BAD_REQUEST_PARAMETER = 33, 307, 36
_ENGINE_COMPRESSIONS = ("lz4", "zstd", "br", "xz", "bz2")


@dataclass
class Request:
    """A statement in `url_query` and/or at the start of the body, and how to run it."""

    url_query: bytes
    settings: Settings
    default_format: str
    query_id: str | None


class Body:
    """The body of one request, by Content-Length or chunked, without its Content-Encoding."""

    def __init__(self, stream: BinaryIO, headers, engine: Engine) -> None:
        self._raw = _raw_chunks(stream, headers)
        encoding = headers.get("Content-Encoding", "identity").lower()
        if encoding == "identity":
            self.chunks = self._raw
        elif encoding in ("gzip", "deflate"):
            self.chunks = _inflated(self._raw)
        elif encoding in _ENGINE_COMPRESSIONS:
            self.chunks = iter([engine.decompress(self._raw, encoding)])
        else:
            raise EngineError(SUPPORT_IS_DISABLED, f"Content-Encoding {encoding} is not supported here")

    def head(self) -> bytes:
        """The first part of the body, at most about a megabyte: more than any statement's text."""
        return self._at_least(_HEAD_BYTES)

    def all(self, bytes_max: int = _FORM_BYTES_MAX) -> bytes:
        """What is left of the body, which must fit in memory."""
        data = self._at_least(bytes_max + 1)
        if len(data) > bytes_max:
            raise EngineError(QUERY_IS_TOO_LARGE, "Request is too large. (QUERY_IS_TOO_LARGE)")
        return data

    def drain(self) -> None:
        """Reads the rest away, so that the connection can carry another request."""
        for _ in self._raw:
            pass

    def _at_least(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and (chunk := next(self.chunks, b"")):
            parts.append(chunk)
            size -= len(chunk)
        return b"".join(parts)


def read_request(target: str, method: str, headers, body: Body) -> Request:
    """Takes a request apart. Reads the body only if it is a form."""
    fields = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
    content_type = headers.get("Content-Type", "")
    if content_type.startswith("multipart/form-data"):
        fields |= _form(content_type, body.all())
    for flag in ("compress", "decompress"):
        if fields.get(flag, "0") != "0":
            raise EngineError(
                SUPPORT_IS_DISABLED, f"{flag}=1 (blocks in ClickHouse's own compression) is not supported"
            )
    settings = Settings(
        database=fields.get("database") or headers.get("X-ClickHouse-Database"),
        values={k: v for k, v in fields.items() if k not in _RESERVED and not k.startswith(_PARAMETER)},
        parameters={k.removeprefix(_PARAMETER): v for k, v in fields.items() if k.startswith(_PARAMETER)},
        read_only=method == "GET",
    )
    return Request(
        url_query=fields.get("query", "").encode(),
        settings=settings,
        default_format=headers.get("X-ClickHouse-Format") or fields.get("default_format") or "TabSeparated",
        query_id=fields.get("query_id"),
    )


def _form(content_type: str, data: bytes) -> dict[str, str]:
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if not boundary:
        raise EngineError(BAD_REQUEST_PARAMETER, "multipart/form-data without a boundary. (BAD_ARGUMENTS)")
    fields = {}
    for part in (b"\r\n" + data).split(b"\r\n--" + boundary[1].encode())[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        if not name or b"filename=" in head:
            raise EngineError(SUPPORT_IS_DISABLED, "External tables are not supported here")
        fields[name[1].decode()] = value.decode()
    return fields


def _raw_chunks(stream: BinaryIO, headers) -> Iterator[bytes]:
    if headers.get("Transfer-Encoding", "").lower() != "chunked":
        yield from _exactly(stream, int(headers.get("Content-Length", "0")))
        return
    while size := _chunk_size(stream):
        yield from _exactly(stream, size)
        stream.readline()
    while stream.readline().strip():  # trailers
        pass


def _chunk_size(stream: BinaryIO) -> int:
    line = stream.readline(1024)
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        # The client went away in mid-body: the data is incomplete and must not be taken for the whole.
        raise ConnectionAbortedError("body ended before its last chunk") from None


def _exactly(stream: BinaryIO, size: int) -> Iterator[bytes]:
    while size:
        chunk = stream.read1(min(size, _READ_BYTES))
        if not chunk:
            raise ConnectionAbortedError("body ended early")
        size -= len(chunk)
        yield chunk


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    for chunk in chunks:
        try:
            data = stream.decompress(chunk)
        except zlib.error as error:
            raise EngineError(CANNOT_READ_ALL_DATA, f"{error}. (CANNOT_READ_ALL_DATA)") from None
        if data:
            yield data
    if not stream.eof:
        raise EngineError(CANNOT_READ_ALL_DATA, "gzip stream is cut short. (CANNOT_READ_ALL_DATA)")
