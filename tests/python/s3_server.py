"""An S3 server for tests, with faults on order: moto behind a door that can fail.

  s3_server.py PORT BUCKET

`POST /__faults__?kind=unavailable&times=20` makes the next 20 requests fail with 503; `kind=lost` lets the next commits
of a Delta table happen and answers 500 all the same; `GET /__faults__` tells how many of each are left.
"""

import json
import re
import sys
import threading
import urllib.parse

import boto3
from moto.moto_server.werkzeug_app import MotoRequestHandler
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

COMMIT = re.compile(r"/_delta_log/\d{20}\.json$")


class Faults:
    def __init__(self, application):
        self.application = application
        self.lock = threading.Lock()
        # moto looks whether an object is there and then writes it; a store that honours conditional puts does both at once.
        self.puts = threading.Lock()
        self.left = {"unavailable": 0, "lost": 0}

    def take(self, kind):
        with self.lock:
            taken = self.left[kind] > 0
            self.left[kind] -= taken
            return taken

    def __call__(self, environ, start_response):
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path == "/__faults__":
            if method == "POST":
                query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
                with self.lock:
                    self.left[query["kind"]] = int(query["times"])
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self.left).encode()]
        if self.take("unavailable"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return error(start_response, "503 Service Unavailable", "SlowDown")
        if method == "PUT" and COMMIT.search(path) and self.take("lost"):
            with self.puts:
                list(self.application(environ, lambda *_: None))
            return error(start_response, "500 Internal Server Error", "InternalError")
        if method == "PUT" and "HTTP_IF_NONE_MATCH" in environ:
            with self.puts:
                return list(self.application(environ, start_response))
        return self.application(environ, start_response)


def error(start_response, status, code):
    start_response(status, [("Content-Type", "application/xml")])
    return [f"<Error><Code>{code}</Code><Message>on order</Message></Error>".encode()]


def main():
    port, bucket = int(sys.argv[1]), sys.argv[2]
    application = Faults(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket=bucket)
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
