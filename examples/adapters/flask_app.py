"""Five logins a minute for each address, in Flask; those that fail count too.

    flask --app examples/adapters/flask_app.py run

Replace the repository by `SyncRepository("my-app")` to count in a table, for all processes together.
"""

from flask import Flask, abort, request

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.flask import Limiter
from limiter.contrib.http import client_ip

limiter = SyncRateLimiter(SyncMemoryRepository(), [Limit.per_minute("requests", 5)])
app = Flask(__name__)
limits = Limiter(limiter, entity=lambda: client_ip(request.remote_addr, request.headers.get), app=app)


@app.post("/login")
@limits.limit(resource="login")
def login() -> str:
    """Let a user in with the right password."""
    return "welcome\n" if request.form.get("password") == "correct horse" else abort(401)
