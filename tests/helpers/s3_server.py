"""A real S3 server on loopback, moto's, whose bucket ``shards`` holds the files of a folder.

It listens once its bucket is full, so that it can be killed and started again under a run.
"""

import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "user",
    "AWS_SECRET_ACCESS_KEY": "word",
    "AWS_DEFAULT_REGION": "us-east-1",
}
BUCKET = "shards"
ACCOUNT = "123456789012"
ROOT = Path(__file__).parents[2]


class S3Server:
    """A server that is running until ``stop``.

    Args:
        folder: whose files its bucket holds, with their paths in it as keys.
        port: of 127.0.0.1.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._log = (self.folder.parent / "s3.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.s3_server", self.folder, str(self.port)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=self._log, env={**os.environ, **CREDENTIALS},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"filled\n", Path(self._log.name).read_text()
        while b"Running on" not in (text := Path(self._log.name).read_bytes()):
            assert self._process.poll() is None, text
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it; its bucket is lost."""
        self._process.kill()
        self._process.communicate()
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)


def serve(folder: Path, port: int) -> None:
    """Fill the bucket, then serve it."""
    warnings.simplefilter("ignore")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import get_canned_acl, s3_backends
    from werkzeug.serving import run_simple

    backend = s3_backends[ACCOUNT]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    public = get_canned_acl("public-read")  # they are read by plain HTTP as well
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        backend.put_object(BUCKET, str(path.relative_to(folder)), path.read_bytes()).set_acl(public)
    sys.stdout.write("filled\n")
    sys.stdout.flush()
    run_simple("127.0.0.1", port, DomainDispatcherApplication(create_backend_app), threaded=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
