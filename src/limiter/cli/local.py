"""`limiter local`: runs the embedded engine on its own."""

from __future__ import annotations

import signal

import click

from .groups import SharedOption

DEFAULT_PORT = 8642
"""A port that the development servers of web frameworks do not use by default."""
DEFAULT_REGION = "us-east-1"
# The engine checks neither; clients only need some.
ACCESS_KEY = "local"
SECRET_KEY = "local"  # noqa: S105 - no secret


@click.command(short_help="Run the embedded engine on this machine.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option("--table", "tables", metavar="NAME", multiple=True, help="Create this table; may be given several times.")
@click.option(
    "--region",
    cls=SharedOption,
    default=DEFAULT_REGION,
    envvar="AWS_DEFAULT_REGION",
    show_default=True,
    help="Region of the tables; each region has its own.",
)
def command(port: int, tables: tuple[str, ...], region: str) -> None:
    """Run an in-memory DynamoDB on this machine, for experiments and tests.

    The engine keeps its data in memory, checks no credentials and listens on 127.0.0.1 only. It prints the variables that
    point other commands and programs at it. Ctrl-C or SIGTERM stops it with exit code 0. It exits with 1 when the port is in
    use, a table cannot be created, or the package is not installed with its extra "local".
    """
    from ..local import serve

    def announce(endpoint_url: str) -> None:
        for table in tables:
            create_table(table, endpoint_url, region)
        click.echo(describe(endpoint_url, tables, region))

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(port=port, on_ready=announce)
    except KeyboardInterrupt:
        click.echo("limiter local: stopped")


def create_table(name: str, endpoint_url: str, region: str) -> None:
    """Create one table with the engine's own credentials, independent of the user's."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    from ..exceptions import LimiterError
    from ..testing import create_table as create

    config = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 1}, proxies={})
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=region)
    client = session.client("dynamodb", endpoint_url=endpoint_url, config=config)
    try:
        create(name, client=client)
    except (BotoCoreError, ClientError) as error:
        raise LimiterError(f"cannot create table {name!r}: {error}") from error
    finally:
        client.close()


def describe(endpoint_url: str, tables: tuple[str, ...], region: str) -> str:
    """Return the text that tells users how to point commands and programs at the engine."""
    name = tables[0] if tables else "my-app"
    deploy = "" if tables else f"  limiter deploy {name}\n"
    program = f'print(SyncRateLimiter(SyncRepository("{name}")).try_acquire("user-42", "api"))'
    return f"""\
limiter local: listening on {endpoint_url}; data is kept in memory only
tables: {", ".join(tables) or "none; --table NAME creates one"}

In another shell, set these variables first:
  export AWS_ENDPOINT_URL={endpoint_url}
  export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_DEFAULT_REGION={region}

Commands and programs in that shell then use this engine:
{deploy}  limiter limits set 100/minute --stack {name}
  python -c 'from limiter import SyncRateLimiter, SyncRepository; {program}'

Press Ctrl-C to stop.
"""
