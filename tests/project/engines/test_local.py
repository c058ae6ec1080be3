"""The embedded engine, and the command that runs it."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from support.engines import accepts, port_of, wait_until

from limiter.cli.local import DEFAULT_PORT
from limiter.exceptions import ConfigurationError, LimiterError
from limiter.local import LocalEngine, _Server, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIEnvironment

PATIENCE = 20.0
LIMITER = [sys.executable, "-m", "limiter.cli"]
# Starts an engine, says where, and holds on; with "fork", a child holds on as well, and with it the pipe to the engine.
OWNER = """
import os, sys, time
from limiter.local import LocalEngine
engine = LocalEngine()
engine.start()
child = os.fork() if "fork" in sys.argv else 0
if child or "fork" not in sys.argv:
    print(engine.endpoint_url, child, flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def local_engine() -> Iterator[LocalEngine]:
    with LocalEngine() as engine:
        yield engine


@pytest.fixture
def occupied_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_connections_are_kept_open(local_engine: LocalEngine) -> None:
    """Two requests go over one connection."""
    connection = http.client.HTTPConnection(local_engine.endpoint_url.removeprefix("http://"), timeout=PATIENCE)
    try:
        used = []
        for _ in range(2):
            connection.request("GET", "/moto-api/data.json")
            assert connection.getresponse().read()
            used.append(connection.sock)
        assert used[0] is used[1] is not None
    finally:
        connection.close()


def test_requests_run_one_at_a_time() -> None:
    """No request starts while another one runs, and each is answered in full."""
    meeting = threading.Barrier(2)
    met = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.2)
            met.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b"a", b"b"]

    with _Server("127.0.0.1", 0, application) as server, ThreadPoolExecutor(4) as pool:
        threading.Thread(target=server.serve_forever).start()
        try:
            answers = list(pool.map(lambda _: fetch(server.server_port), range(4)))
        finally:
            server.shutdown()
    assert answers == [b"ab"] * 4
    assert met == []


def fetch(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def test_reset_forgets_tables(local_engine: LocalEngine, table_name: str) -> None:
    """After a reset there are no tables."""
    client = boto3.client("dynamodb", endpoint_url=local_engine.endpoint_url)
    client.create_table(
        TableName=table_name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert client.list_tables()["TableNames"] == [table_name]
    local_engine.reset()
    assert client.list_tables()["TableNames"] == []
    client.close()


def test_moto_failing_is_an_error_with_its_reason(local_engine: LocalEngine, table_name: str) -> None:
    """A request that moto fails on is answered with status 500 and the traceback, and the next one is served."""
    config = Config(retries={"total_max_attempts": 1})
    client = boto3.client("dynamodb", endpoint_url=local_engine.endpoint_url, config=config)
    client.create_table(
        TableName=table_name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.put_item(TableName=table_name, Item={"pk": {"S": "a"}, "amount": {"N": "1"}})
    with pytest.raises(client.exceptions.ClientError, match="Traceback"):
        client.put_item(
            TableName=table_name,
            Item={"pk": {"S": "a"}},
            ConditionExpression="amount < :text",
            ExpressionAttributeValues={":text": {"S": "x"}},
        )
    assert client.get_item(TableName=table_name, Key={"pk": {"S": "a"}})["Item"]["amount"] == {"N": "1"}
    client.close()


def test_stops_with_its_block() -> None:
    """Nothing listens after the block; starting twice and stopping twice do nothing."""
    with LocalEngine() as engine:
        engine.start()
        port = port_of(engine.endpoint_url)
        assert accepts(port)
    engine.stop()
    assert not accepts(port)
    with pytest.raises(LimiterError, match="not running"):
        _ = engine.endpoint_url


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("how", ["alone", "fork"])
def test_ends_when_its_owner_is_killed(how: str) -> None:
    """The engine ends by itself when its owner is gone, even while a fork of the owner lives."""
    child = 0
    with subprocess.Popen([sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            endpoint_url, child_text = owner.stdout.readline().split()
            child = int(child_text)
            assert accepts(port_of(endpoint_url))
            owner.kill()
            assert wait_until(lambda: not accepts(port_of(endpoint_url)))
        finally:
            owner.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def test_says_how_to_install_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without moto the error is the pip command to run."""
    monkeypatch.setitem(sys.modules, "moto", None)
    monkeypatch.setitem(sys.modules, "moto.moto_server.werkzeug_app", None)
    for start in (LocalEngine().start, serve):
        with pytest.raises(ConfigurationError, match=r'pip install "dynamodb-limiter\[local\]"'):
            start()


def test_port_in_use_is_an_error(occupied_port: int) -> None:
    """A port that is taken is named, in the caller's process and in a child's."""
    with pytest.raises(LimiterError, match=f"cannot listen on 127.0.0.1:{occupied_port}"):
        serve(port=occupied_port)
    with pytest.raises(LimiterError, match=f"cannot listen on 127.0.0.1:{occupied_port}"):
        LocalEngine(port=occupied_port).start()


def test_error_in_on_ready_ends_the_server() -> None:
    """What `on_ready` raises comes out of `serve`, and nothing listens any more."""
    seen = []

    def refuse(endpoint_url: str) -> None:
        seen.append(port_of(endpoint_url))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        serve(on_ready=refuse)
    assert not accepts(seen[0])


def test_import_is_light() -> None:
    """Importing the module imports neither moto, boto nor asyncio."""
    code = "import sys, limiter.local; print(*{'moto', 'boto3', 'botocore', 'flask', 'asyncio'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def exported(output: IO[str]) -> dict[str, str]:
    """The variables that the command tells users to export."""
    lines = iter(output.readline, "Press Ctrl-C to stop.\n")
    words = [word for line in lines if line.startswith("  export ") for word in line.split()[1:]]
    return dict(word.split("=") for word in words)


@pytest.mark.skipif(os.name == "nt", reason="what it prints is for POSIX shells")
@pytest.mark.parametrize("tables", [["--table", "my-app"], []])
def test_what_the_command_prints_works_as_it_is(tables: list[str], tmp_path: Path) -> None:
    """A shell without any AWS setting runs the printed lines, the shell's and Python's, and every other command."""
    command = [*LIMITER, "local", "--port", "0", *tables]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watchdog = threading.Timer(4 * PATIENCE, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            lines = list(iter(process.stdout.readline, "Press Ctrl-C to stop.\n"))
            script = "".join(line.removeprefix("  ") for line in lines if line.startswith("  "))
            for name, program in (("limiter", '-m limiter.cli "$@"'), ("python", '"$@"')):
                (tmp_path / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {program}\n')
                (tmp_path / name).chmod(0o755)
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "LIMITER_"))}
            environment = {
                **kept,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            }
            more = "limiter deploy my-other\nlimiter list\nlimiter status my-other\nlimiter doctor my-app\n"
            shell = ["sh", "-e", "-c", script + more]
            done = subprocess.run(shell, env=environment, capture_output=True, text=True, timeout=3 * PATIENCE, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Decision(allowed=True" in done.stdout
        finally:
            process.kill()
            watchdog.cancel()


def test_a_request_that_is_not_imitated(local_engine: LocalEngine) -> None:
    """It is refused at once in the protocol of the service, with the name of the action, so that clients do not repeat it."""
    client = boto3.client("cloudformation", endpoint_url=local_engine.endpoint_url)
    with pytest.raises(client.exceptions.ClientError, match="does not imitate DetectStackDrift") as caught:
        client.detect_stack_drift(StackName="my-app")
    assert caught.value.response["Error"]["Code"] == "NotImitated"
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    client.close()


def test_the_default_port_is_no_web_servers() -> None:
    """gunicorn, uvicorn and Django use 8000 by default, and Flask and moto 5000."""
    assert DEFAULT_PORT not in {5000, 8000, 8080}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_a_signal(number: signal.Signals, table_name: str) -> None:
    """`limiter local` creates tables, prints the variables for other shells, and exits with 0 on Ctrl-C or SIGTERM."""
    command = [*LIMITER, "local", "--port", "0", "--table", table_name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            settings = exported(process.stdout)
            assert settings.keys() == {
                *("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"),
            }
            client = boto3.client("dynamodb", endpoint_url=settings["AWS_ENDPOINT_URL"])
            assert client.list_tables()["TableNames"] == [table_name]
            client.close()
            process.send_signal(number)
            assert "stopped" in process.stdout.read()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            watchdog.cancel()


def test_command_fails_when_the_port_is_taken(occupied_port: int) -> None:
    """`limiter local` on a taken port ends with status 1 and one line."""
    command = [*LIMITER, "local", "--port", str(occupied_port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{occupied_port}" in done.stderr
    assert "choose another one with --port" in done.stderr
    assert done.stderr.count("\n") == 1


def test_command_says_how_to_install_click() -> None:
    """Without click the command ends with the pip command to run."""
    code = "import sys; sys.modules['click'] = None; from limiter.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert 'pip install "dynamodb-limiter[cli]"' in done.stderr
