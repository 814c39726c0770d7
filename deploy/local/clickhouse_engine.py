"""The ClickHouse engine inside this process, one connection a request.

A process hosts one engine on one data directory. Connections to it are cheap (0.2 ms), run in parallel and have
settings of their own, so a request opens one, sets what it asks for, and closes it: nothing leaks to the next.
"""

import contextlib
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chdb import _chdb

_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CHUNK_BYTES = 1 << 20
# chdb's own defaults that differ from the server's.
_AS_ON_A_SERVER = {"implicit_select": "0", "allow_introspection_functions": "0"}
# Several engines may share a machine with everything else; by themselves each takes most of its memory.
_LIMITS = {"max_server_memory_usage": 4 << 30, "mark_cache_size": 256 << 20}

UNKNOWN_SETTING, SYNTAX_ERROR, SUPPORT_IS_DISABLED, UNKNOWN_EXCEPTION = 115, 62, 344, 1002


class EngineError(Exception):
    """What the engine refused, with ClickHouse's own number and text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @classmethod
    def from_engine(cls, error: Exception) -> "EngineError":
        """Keeps the innermost `Code: N. DB::Exception: ...` of the engine's message."""
        text = str(error)
        found = list(_CODE.finditer(text))
        if not found:
            return cls(UNKNOWN_EXCEPTION, text)
        message = text[found[-1].end() :]
        return cls(int(found[-1][1]), re.sub(r"( \(version [\d.]+\)\.?)( \([A-Z_]+\))?$", "", message))


@dataclass
class Settings:
    """What a request asks for besides its statement."""

    database: str | None = None
    values: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    read_only: bool = False


@dataclass
class Outcome:
    """The answer to a statement: its bytes in the format asked for, and what it took."""

    data: bytes
    summary: dict[str, int]


class Engine:
    """Owns the data directory until `close`."""

    def __init__(self, path: str) -> None:
        self._target = f"file:{path}"
        limits = "&".join(f"{name}={value}" for name, value in _LIMITS.items())
        self._keeper = _chdb.connect(f"{self._target}?{limits}")
        self.version = self._text("SELECT version()")
        self.timezone = self._text("SELECT timezone()")

    def close(self) -> None:
        """Waits for the engine's background work and lets the directory go."""
        self._keeper.close()

    def query(self, statement: str, output_format: str, settings: Settings) -> Outcome:
        """Runs one statement and answers all of its result."""
        with self._session(settings) as connection:
            if connection.classify_query(statement)["statement_count"] > 1:
                raise EngineError(SYNTAX_ERROR, "Multi-statements are not allowed. (SYNTAX_ERROR)")
            result = connection.query(statement, output_format, params=settings.parameters)
            if result.has_error():
                raise EngineError.from_engine(RuntimeError(result.error_message()))
            return Outcome(
                result.bytes(),
                {
                    "read_rows": result.storage_rows_read(),
                    "read_bytes": result.storage_bytes_read(),
                    "written_rows": result.rows_written(),
                    "written_bytes": result.bytes_written(),
                    "result_rows": result.rows_read(),
                    "result_bytes": result.size(),
                    "elapsed_ns": round(result.elapsed() * 1e9),
                },
            )

    def insert(self, statement: str, input_format: str, chunks: Iterable[bytes], settings: Settings) -> Outcome:
        """Runs one INSERT with the data in `chunks`, in constant memory. Nothing more is written once it raises."""
        with self._session(settings, parameters_in_session=True) as connection:
            inserter = connection.send_insert(statement, input_format)
            started, sent = time.time(), False
            try:
                for chunk in _coalesced(chunks):
                    connection.insert_append(inserter, chunk)
                    sent = True
            except BaseException:
                connection.insert_cancel(inserter)
                raise
            result = connection.insert_done(inserter)
            rows, size = result.rows_written(), result.bytes_written()
            if sent and rows == 0:
                self._raise_refusal(started)
            elapsed_ns = round(result.elapsed() * 1e9)
            return Outcome(b"", {"written_rows": rows, "written_bytes": size, "elapsed_ns": elapsed_ns})

    def _raise_refusal(self, since: float) -> None:
        """An insert that a table refused (too many parts) ends without rows and without an error of its own."""
        statement = (
            "SELECT last_error_message, code FROM system.errors WHERE toUnixTimestamp(last_error_time) >= {since:Int64} "
            "AND name = 'TOO_MANY_PARTS'"
        )
        text = self._keeper.query(statement, "TSVRaw", params={"since": str(int(since))}).bytes().decode().strip()
        if text:
            message, _, code = text.rpartition("\t")
            raise EngineError(int(code), f"{message} (TOO_MANY_PARTS)")

    def decompress(self, chunks: Iterable[bytes], method: str) -> bytes:
        """Undoes a compression that Python does not know but the engine does, from files only."""
        with tempfile.NamedTemporaryFile() as spool:
            spool.writelines(chunks)
            spool.flush()
            statement = "SELECT data FROM file({path:String}, 'RawBLOB', 'data String', {method:String})"
            parameters = {"path": _escaped(spool.name), "method": method}
            return self.query(statement, "RawBLOB", Settings(parameters=parameters)).data

    @contextlib.contextmanager
    def _session(self, settings: Settings, parameters_in_session: bool = False) -> Iterator["_chdb.connect"]:
        connection = _chdb.connect(self._target)
        try:
            _apply(connection, _AS_ON_A_SERVER)
            if settings.database:
                connection.query("USE {name:Identifier}", "Null", params={"name": settings.database})
            _apply(connection, settings.values)
            if parameters_in_session:
                # A streamed insert takes no parameters of its own.
                for name, value in settings.parameters.items():
                    connection.query(f"SET param_{_name(name)} = {_literal(value)}", "Null", params={})
            if settings.read_only:
                _apply(connection, {"readonly": "2"})
            yield connection
        except RuntimeError as error:
            raise EngineError.from_engine(error) from None
        finally:
            connection.close()

    def _text(self, statement: str) -> str:
        return self._keeper.query(statement, "TSVRaw", params={}).bytes().decode().strip()


def _apply(connection: "_chdb.connect", values: dict[str, str]) -> None:
    if values:
        assignments = ", ".join(f"{_name(name)} = {{v{i}:String}}" for i, name in enumerate(values))
        parameters = {f"v{i}": _escaped(value) for i, value in enumerate(values.values())}
        connection.query(f"SET {assignments}", "Null", params=parameters)


def _name(name: str) -> str:
    if not _SETTING.fullmatch(name):
        raise EngineError(UNKNOWN_SETTING, f"Unknown setting '{name}'. (UNKNOWN_SETTING)")
    return name


def _escaped(value: str) -> str:
    """As a parameter's text is read: one line of TabSeparated."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _coalesced(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Joins small chunks: each one handed over costs the engine a hand-shake between threads."""
    pending: list[bytes] = []
    size = 0
    for chunk in chunks:
        pending.append(chunk)
        size += len(chunk)
        if size >= _CHUNK_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
    if size:
        yield b"".join(pending)
