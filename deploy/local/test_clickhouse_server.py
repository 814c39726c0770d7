"""Runs clickhouse_server.py as a process of its own and talks to it over HTTP, and with the official client.

deploy/local/install --with-tests
~/.cache/reckon/test-venv/bin/python -m unittest discover -s deploy/local
"""

import gzip
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from urllib.parse import urlencode

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import ready  # noqa: E402
from clickhouse_statement import split_insert  # noqa: E402

CACHE = Path(
    os.environ.get("RECKON_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reckon"
)
STATE = "CAST(users, 'AggregateFunction(uniqCombined64(14), UInt64)')"


class Server:
    """A server process on a data directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        (self.port,) = ready.free_ports(1)
        self.start()

    def start(self) -> None:
        script = [str(CACHE / "venv/bin/python"), str(HERE / "clickhouse_server.py")]
        arguments = ["--port", str(self.port), "--path", self.path]
        self.process = subprocess.Popen(script + arguments, stdout=subprocess.DEVNULL)
        assert ready.wait("clickhouse", self.port, self.process.pid, 30) == 0, "server did not start"

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def call(self, body=b"", method="POST", headers=None, **fields) -> tuple[int, dict, bytes]:
        """One request; answers status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, "/?" + urlencode(fields), body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def run(self, statement: str, **fields) -> bytes:
        """One statement that must succeed."""
        status, _, answer = self.call(statement.encode(), **fields)
        assert status == 200, answer
        return answer


class OnServer(unittest.TestCase):
    """Each class of tests has a server, each test a database of its own."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server(cls.folder.name)

    @classmethod
    def tearDownClass(cls) -> None:
        status = cls.server.stop()
        cls.folder.cleanup()
        assert status == 0, f"exit status {status}"

    def setUp(self) -> None:
        self.database = self.id().rpartition(".")[2]
        self.server.run(f"CREATE DATABASE {self.database}")

    def run_here(self, statement: str, **fields) -> bytes:
        return self.server.run(statement, database=self.database, **fields)


class Interface(OnServer):
    def test_ping(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        for _ in range(2):  # on one connection
            connection.request("GET", "/ping")
            self.assertEqual(connection.getresponse().read(), b"Ok.\n")
        connection.close()

    def test_row_binary_in_chunks_reads_back_with_names_and_types(self):
        self.run_here("CREATE TABLE t (id UInt64, name String) ENGINE = MergeTree ORDER BY id")
        rows = b"".join(struct.pack("<Q", i) + b"\x03abc" for i in range(100_000))
        pieces = (rows[i : i + 7_777] for i in range(0, len(rows), 7_777))
        query = "INSERT INTO t(id, name) FORMAT RowBinary"
        status, headers, answer = self.server.call(pieces, database=self.database, query=query, async_insert="0")
        self.assertEqual((status, answer), (200, b""))
        self.assertEqual(json.loads(headers["X-ClickHouse-Summary"])["written_rows"], "100000")
        answer = self.run_here("SELECT id, name FROM t WHERE id = 7", default_format="RowBinaryWithNamesAndTypes")
        self.assertEqual(answer, b"\x02\x02id\x04name\x06UInt64\x06String" + struct.pack("<Q", 7) + b"\x03abc")

    def test_names_and_types_header_of_an_insert_is_checked(self):
        self.run_here("CREATE TABLE t (id UInt64, name String) ENGINE = MergeTree ORDER BY id")
        for kind, status in ((b"\x06UInt64", 200), (b"\x06String", 400)):
            body = b"\x01\x02id" + kind + struct.pack("<Q", 5)
            query = "INSERT INTO t(id) FORMAT RowBinaryWithNamesAndTypes"
            self.assertEqual(self.server.call(body, database=self.database, query=query)[0], status)
        self.assertEqual(self.run_here("SELECT count() FROM t"), b"1\n")

    def test_gzip_body(self):
        self.run_here("CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id")
        fields = {"database": self.database, "query": "INSERT INTO t FORMAT TSV"}
        body, headers = gzip.compress(b"1\n2\n"), {"Content-Encoding": "gzip"}
        self.assertEqual(self.server.call(body, headers=headers, **fields)[0], 200)
        self.assertEqual(self.server.call(body[:-9], headers=headers, **fields)[0], 400)
        self.assertEqual(self.run_here("SELECT count() FROM t"), b"2\n")

    def test_statement_and_binary_data_in_one_body(self):
        self.run_here("CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id")
        body = b"INSERT INTO t /* FORMAT CSV */ FORMAT RowBinary\n" + struct.pack("<Q", 10)
        self.assertEqual(self.server.call(body, database=self.database)[0], 200)
        self.assertEqual(self.run_here("SELECT id FROM t"), b"10\n")

    def test_parameters_are_values_never_text(self):
        hostile = "x'; DROP TABLE t; --"
        self.run_here("CREATE TABLE t (name String) ENGINE = MergeTree ORDER BY name")
        query = "INSERT INTO t SELECT {name:String}"
        self.run_here(query, param_name=hostile)
        answer = self.run_here(
            "SELECT count() FROM {table:Identifier} WHERE name = {n:String}", param_n=hostile, param_table="t"
        )
        self.assertEqual(answer, b"1\n")
        self.assertEqual(
            self.server.call(b"SELECT {n:UInt8}", param_n="1 OR 1")[1]["X-ClickHouse-Exception-Code"], "457"
        )

    def test_parameters_in_a_form(self):
        parts = {"query": "SELECT {a:String}, {b:Array(UInt8)}", "param_a": "it's", "param_b": "[1,2]"}
        form = "".join(f'--B\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in parts.items())
        headers = {"Content-Type": "multipart/form-data; boundary=B"}
        status, _, answer = self.server.call((form + "--B--\r\n").encode(), headers=headers, default_format="CSV")
        self.assertEqual((status, answer), (200, b'"it\'s","[1,2]"\n'))

    def test_errors_carry_code_and_status(self):
        for statement, status, code in [
            ("SELECT nope", 404, "47"),
            ("SELEC 1", 400, "62"),
            ("SELECT 1; SELECT 2", 400, "62"),
            ("SELECT throwIf(1)", 500, "395"),
            ("", 400, "62"),
        ]:
            got, headers, answer = self.server.call(statement.encode())
            self.assertEqual((got, headers["X-ClickHouse-Exception-Code"]), (status, code), answer)
            self.assertTrue(answer.startswith(f"Code: {code}. DB::Exception: ".encode()), answer)
        self.assertEqual(self.server.call(b"SELECT 1", nope="1")[1]["X-ClickHouse-Exception-Code"], "115")
        self.assertEqual(self.server.call(b"SELECT 1", database="nope")[1]["X-ClickHouse-Exception-Code"], "81")

    def test_settings_last_for_one_request(self):
        query = "SELECT getSetting('max_block_size')"
        self.assertEqual(self.server.run(query, max_block_size="123"), b"123\n")
        self.assertNotEqual(self.server.run(query), b"123\n")

    def test_get_reads_only(self):
        self.assertEqual(self.server.call(method="GET", query="SELECT 1")[2], b"1\n")
        _, headers, _ = self.server.call(method="GET", query="CREATE DATABASE never")
        self.assertEqual(headers["X-ClickHouse-Exception-Code"], "164")

    def test_an_insert_that_is_cut_off_writes_nothing(self):
        self.run_here("CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id")
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        url = "/?" + urlencode({"database": self.database, "query": "INSERT INTO t FORMAT RowBinary"})
        connection.putrequest("POST", url)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(b"8\r\n" + struct.pack("<Q", 1) + b"\r\n")
        connection.close()
        self.assertEqual(self.run_here("SELECT count() FROM t"), b"0\n")

    def test_a_refused_insert_is_no_success(self):
        limits = "parts_to_delay_insert = 100, parts_to_throw_insert = 2"
        self.run_here(f"CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id SETTINGS {limits}")
        self.run_here("SYSTEM STOP MERGES t")
        fields = {"database": self.database, "query": "INSERT INTO t FORMAT RowBinary"}
        answers = [self.server.call(struct.pack("<Q", number), **fields) for number in range(4)]
        self.assertEqual([status for status, _, _ in answers], [200, 200, 500, 500])
        self.assertIn(b"Too many parts", answers[-1][2])
        self.assertEqual(self.run_here("SELECT count() FROM t"), b"2\n")

    def test_a_token_deduplicates(self):
        layout = "ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100"
        self.run_here(f"CREATE TABLE t (id UInt64) {layout}")
        for number in (1, 2):
            fields = {"query": "INSERT INTO t FORMAT RowBinary", "insert_deduplication_token": "events:0:0-9 'a' &"}
            self.assertEqual(self.server.call(struct.pack("<Q", number), database=self.database, **fields)[0], 200)
        self.assertEqual(self.run_here("SELECT groupArray(id) FROM t"), b"[1]\n")

    def test_latest_version_wins_and_sketches_merge_through_a_view(self):
        self.run_here("CREATE TABLE cells (k UInt8, users String, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY k")
        self.run_here(f"CREATE VIEW cells_view AS SELECT k, {STATE} AS users FROM cells FINAL")
        state = "CAST(uniqCombined64State(14)(number), 'String')"
        for key, version, start, count in ((1, 1, 0, 5), (1, 3, 0, 60_000), (1, 2, 0, 7), (2, 1, 30_000, 60_000)):
            numbers = f"numbers({start}, {count})"
            self.run_here(f"INSERT INTO cells SELECT {key}, {state}, {version} FROM {numbers}")
        estimate = int(self.run_here("SELECT uniqCombined64Merge(14)(users) FROM cells_view"))
        self.assertAlmostEqual(estimate, 90_000, delta=2_000)
        first = int(self.run_here("SELECT uniqCombined64Merge(14)(users) FROM cells_view WHERE k = 1"))
        self.assertAlmostEqual(first, 60_000, delta=1_500)

    def test_eight_clients_at_once(self):
        self.run_here("CREATE TABLE t (client UInt8, n UInt64) ENGINE = MergeTree ORDER BY (client, n)")
        failures = []

        def work(client: int) -> None:
            try:
                for n in range(20):
                    body = struct.pack("<BQ", client, n)
                    fields = {"query": "INSERT INTO t FORMAT RowBinary", "max_threads": str(client + 1)}
                    assert self.server.call(body, database=self.database, **fields)[0] == 200
                    query = "SELECT count(), getSetting('max_threads') FROM t WHERE client = {c:UInt8}"
                    answer = self.run_here(query, param_c=client, max_threads=client + 1)
                    assert answer == f"{n + 1}\t{client + 1}\n".encode(), answer
            except Exception as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=work, args=(client,)) for client in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(self.run_here("SELECT count(), uniqExact(client) FROM t"), b"160\t8\n")

    def test_official_client(self):
        with clickhouse_connect.get_client(host="127.0.0.1", port=self.server.port, database=self.database) as client:
            client.command("CREATE TABLE t (id UInt64, name LowCardinality(String)) ENGINE = MergeTree ORDER BY id")
            client.insert("t", [[1, "a"], [2, "b'\\"]], column_names=["id", "name"])
            rows = client.query("SELECT id, name FROM t WHERE id = {i:UInt64}", parameters={"i": 2}).result_rows
            self.assertEqual(list(rows), [(2, "b'\\")])
            with self.assertRaisesRegex(DatabaseError, "UNKNOWN_TABLE|60"):
                client.query("SELECT * FROM nope")


class Persistence(OnServer):
    def test_what_was_acknowledged_survives_a_kill(self):
        self.run_here("CREATE TABLE t (id UInt64) ENGINE = MergeTree ORDER BY id")
        acknowledged, stopped = [], threading.Event()

        def work() -> None:
            while not stopped.is_set():
                number = len(acknowledged)
                try:
                    fields = {"database": self.database, "query": "INSERT INTO t FORMAT RowBinary"}
                    if self.server.call(struct.pack("<Q", number), **fields)[0] == 200:
                        acknowledged.append(number)
                except OSError:
                    return

        thread = threading.Thread(target=work)
        thread.start()
        while len(acknowledged) < 30:
            thread.join(0.01)
        self.server.stop(signal.SIGKILL)
        thread.join()
        self.server.start()
        kept = json.loads(self.run_here("SELECT arraySort(groupArray(id)) FROM t"))
        # The last one may have been taken without an answer.
        self.assertIn(kept, (acknowledged, [*acknowledged, len(acknowledged)]))


class Statement(unittest.TestCase):
    def test_where_an_insert_ends(self):
        for text, expected in [
            (b"SELECT 1 FORMAT CSV", None),
            (b"INSERT INTO t SELECT 1", None),
            (b"INSERT INTO t FROM INFILE 'x' FORMAT CSV", None),
            (b"insert into t(a, `format b`) values (1)", ("insert into t(a, `format b`) ", "Values", b" (1)")),
            (b"-- c\nINSERT INTO t FORMAT TSV\n\t1\n", ("-- c\nINSERT INTO t ", "TSV", b"\t1\n")),
            (
                b"INSERT INTO t SETTINGS a='FORMAT' FORMAT CSV\r\n\n1",
                ("INSERT INTO t SETTINGS a='FORMAT' ", "CSV", b"\n1"),
            ),
            (b"INSERT INTO t;", ("INSERT INTO t", None, b"")),
            (b"", None),
        ]:
            found = split_insert(text)
            self.assertEqual(found and (found.statement, found.format, found.data), expected, text)


if __name__ == "__main__":
    unittest.main()
