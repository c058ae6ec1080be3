"""A gunicorn configuration that patches before the application is preloaded."""

import gevent.monkey

gevent.monkey.patch_all()

preload_app = True
control_socket_disable = True
graceful_timeout = 1
