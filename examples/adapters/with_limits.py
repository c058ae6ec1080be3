"""Flask-Limiter on a DynamoDB table: limits that all processes of the application share.

pip install "dynamodb-limiter[limits]" flask-limiter; python examples/adapters/with_limits.py
"""

import flask
from flask_limiter import Limiter

import limiter.contrib.limits  # noqa: F401 - registers dynamodb://

app = flask.Flask(__name__)
Limiter(
    lambda: "user-42",
    app=app,
    storage_uri="dynamodb://my-app",
    strategy="sliding-window-counter",
    default_limits=["3/day"],
)


@app.route("/")
def index() -> str:
    return "welcome"


if __name__ == "__main__":
    client = app.test_client()
    print([client.get("/").status_code for _ in range(5)])
