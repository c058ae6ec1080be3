"""`limiter local`: the embedded engine by itself."""

from __future__ import annotations

import signal

import click

DEFAULT_PORT = 8000
DEFAULT_REGION = "us-east-1"
# Anything does: the engine checks neither.
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
    default=DEFAULT_REGION,
    envvar="AWS_DEFAULT_REGION",
    show_default=True,
    help="Region of the tables; each region has its own.",
)
def command(port: int, tables: tuple[str, ...], region: str) -> None:
    """Run an in-memory DynamoDB on this machine, to try the limiter and to test with.

    It keeps nothing, checks no credentials and listens on 127.0.0.1 only. Ctrl-C or SIGTERM ends it with status 0.
    Status 1: the port is in use, a table cannot be created, or the package is not installed with its extra "local".
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
    """Create one table with the engine's own credentials, whatever the user's are."""
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
    """What the user needs to know to point programs at the engine."""
    name = tables[0] if tables else "my-app"
    made = f"tables: {', '.join(tables)}" if tables else "no tables yet; start with --table NAME to create one"
    return f"""\
limiter local: listening on {endpoint_url}, in memory, {made}

Point programs at it:
  export AWS_ENDPOINT_URL_DYNAMODB={endpoint_url}
  export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_DEFAULT_REGION={region}
or in Python:
  Repository("{name}", endpoint_url="{endpoint_url}", region="{region}")

Ctrl-C ends it.
"""
