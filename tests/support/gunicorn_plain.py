"""A gunicorn configuration that says nothing of patching, which the gevent worker then does when it starts."""

control_socket_disable = True
graceful_timeout = 1
