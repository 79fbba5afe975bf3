"""A store that answers with errors, or not at all, ends a command in one line with exit code 2."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ecdctr_spark import cli
from tests.configured import FIRST_DAY

DAYS = ("--from", "2000-02-01", "--to", "2000-02-02")
COMMANDS = [("metrics",), ("plan", *DAYS), ("export", "--model", "m", "--output", "o"), ("run", *DAYS)]


class _Failing(BaseHTTPRequestHandler):
    """Refuses every request with an error of the server."""

    def _refuse(self) -> None:
        self.send_error(500)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _refuse

    def log_message(self, *_: object) -> None:
        """Says nothing on the terminal."""


@contextmanager
def failing() -> Iterator[str]:
    """The address of a server that fails."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def gone() -> Iterator[str]:
    """The address of a server that has ended."""
    with silent() as address:
        pass
    yield address


@pytest.mark.parametrize("store", [failing, silent, gone])
@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_a_command_says_that_the_store_fails_or_does_not_answer(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    store: object,
    command: tuple[str, ...],
) -> None:
    with store() as address:  # type: ignore[operator]
        for name, value in (("AWS_ENDPOINT_URL", address), ("AWS_REGION", "us-east-1")):
            monkeypatch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "--set", "storage.root=s3://bucket/root", "--set", FIRST_DAY])
    (line,) = capsys.readouterr().err.splitlines()
    said = "a server fails" if store is failing else "a server does not answer"
    assert line.startswith(f"error: {said} (") and ended.value.code == 2, line
