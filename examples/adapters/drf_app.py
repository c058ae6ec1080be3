"""Five searches a minute for each user or address, in Django REST framework, in one file.

    gunicorn drf_app:application --chdir examples/adapters

Replace the repository by `SyncRepository("my-app")` to count in a table, for all processes together.
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.urls import path

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["limiter.contrib.django.LimiterMiddleware"],
    LIMITER={"headers": "draft-11"},
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None},
)

from rest_framework.response import Response  # noqa: E402 - after the settings, which it reads when imported
from rest_framework.views import APIView  # noqa: E402 - as above

from limiter.contrib.drf import LimiterThrottle  # noqa: E402 - as above


class SearchThrottle(LimiterThrottle):
    """Decides by one write, so that requests at once are counted exactly."""

    limiter = SyncRateLimiter(SyncMemoryRepository(), [Limit.per_minute("requests", 5)])
    scope = "search"


class SearchView(APIView):
    """Search."""

    throttle_classes = (SearchThrottle,)

    def get(self, request):
        """Search."""
        return Response({"found": 1})


urlpatterns = [path("search", SearchView.as_view())]
application = get_wsgi_application()
