"""A limiter's statistics and the durations of its decisions as OpenTelemetry metrics.

pip install "dynamodb-limiter[otel]"; python examples/adapters/with_opentelemetry.py
"""

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.opentelemetry import instrument, time_decisions

reader = InMemoryMetricReader()  # in production: PeriodicExportingMetricReader(OTLPMetricExporter())
metrics.set_meter_provider(MeterProvider([reader]))
limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.parse("requests=2/hour")], on_decision=time_decisions())
instrument(limiter)

if __name__ == "__main__":
    with limiter:
        for _ in range(5):
            limiter.try_acquire("user-42", "search")
    (resource,) = reader.get_metrics_data().resource_metrics
    for metric in resource.scope_metrics[0].metrics:
        if metric.name == "limiter.decisions":
            print(*(f"{point.value} {point.attributes['outcome']}" for point in metric.data.data_points), sep=", ")
        if metric.name == "limiter.decision.duration":
            print(sum(point.count for point in metric.data.data_points), "durations")
