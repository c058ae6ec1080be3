"""A gunicorn configuration without patching; the gevent worker patches when it starts."""

control_socket_disable = True
graceful_timeout = 1
