"""A pytest plugin that has the library open its clients from sessions of aioboto3: `-p tests.support.aioboto3_sessions`."""

from __future__ import annotations

from typing import Any

import aioboto3

from limiter.aws import client


def new_session(options: client.ClientOptions) -> Any:
    """Return a session of aioboto3, as a program passes one."""
    return aioboto3.Session(profile_name=options.profile)


client.new_session = new_session
