"""Picks free ports, and waits until a server answers its own protocol.

ready.py ports COUNT                          prints COUNT free ports on the loopback address
ready.py wait SERVICE PORT PID TIMEOUT_S      exit 0 ready, 1 the process ended, 2 not in time
"""

import os
import random
import socket
import struct
import sys
import time
from urllib.request import ProxyHandler, build_opener

# Below the range that outgoing connections are given, so that a server that was killed finds its port free again.
_PORTS = range(15000, 30000)
_ATTEMPT_TIMEOUT_S = 2
_PAUSE_S = 0.05


def kafka(port: int) -> bool:
    """Asks for ApiVersions (version 0) and then for the metadata of the cluster: the broker must be registered."""
    with socket.create_connection(("127.0.0.1", port), _ATTEMPT_TIMEOUT_S) as connection:
        connection.settimeout(_ATTEMPT_TIMEOUT_S)
        versions = _kafka_call(connection, api_key=18, api_version=0, body=b"")
        if versions[4:6] != b"\0\0":
            return False
        # Metadata v1 with an empty list of topics: correlation id, then the array of brokers.
        metadata = _kafka_call(connection, api_key=3, api_version=1, body=struct.pack(">i", 0))
        return struct.unpack(">i", metadata[4:8])[0] >= 1


def _kafka_call(connection: socket.socket, api_key: int, api_version: int, body: bytes) -> bytes:
    request = struct.pack(">hhih", api_key, api_version, 1, 5) + b"ready" + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    return _exactly(connection, struct.unpack(">i", _exactly(connection, 4))[0])


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise ConnectionError("closed in mid-answer")
        data += chunk
    return data


def redis(port: int) -> bool:
    """PING answers an error while the append-only file is being loaded."""
    with socket.create_connection(("127.0.0.1", port), _ATTEMPT_TIMEOUT_S) as connection:
        connection.settimeout(_ATTEMPT_TIMEOUT_S)
        connection.sendall(b"PING\r\n")
        return connection.recv(64) == b"+PONG\r\n"


def clickhouse(port: int) -> bool:
    """GET /ping, never through a proxy."""
    with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/ping", timeout=_ATTEMPT_TIMEOUT_S) as answer:
        return answer.read() == b"Ok.\n"


def wait(service: str, port: int, pid: int, timeout_s: float) -> int:
    """Asks until the answer is right, the process is gone, or time is up."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if {"kafka": kafka, "redis": redis, "clickhouse": clickhouse}[service](port):
                return 0
        except (OSError, struct.error):
            pass
        if not _runs(pid):
            return 1
        time.sleep(_PAUSE_S)
    return 2


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now, all different."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "ports":
        print(*free_ports(int(sys.argv[2])))
    else:
        os._exit(wait(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
