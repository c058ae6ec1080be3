"""Five requests a minute for each address in Django, and two searches, in one file.

    gunicorn django_app:application --chdir examples/adapters

Replace the repository by `SyncRepository("my-app")` to count in a table, for all processes together.
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.django import client_ip, ratelimit

limiter = SyncRateLimiter(SyncMemoryRepository(), [Limit.per_minute("requests", 5)])
settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["limiter.contrib.django.LimiterMiddleware"],
    LIMITER={"sync_limiter": limiter, "entity": client_ip, "headers": "draft-11"},
)


@ratelimit(limiter, entity=client_ip, resource="search", limits=[Limit.per_minute("requests", 2)])
def search(request):
    """Search."""
    return HttpResponse("found\n")


urlpatterns = [path("", lambda request: HttpResponse("hello\n")), path("search", search)]
application = get_wsgi_application()
