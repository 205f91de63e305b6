"""Metrics for Prometheus: requests by route and status, how long they took, and what the services count."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.serving.service import Service

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """One app's metrics, in a registry of their own."""

    media = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._registry = CollectorRegistry()
        names = ("method", "route", "status")
        self._calls = Counter("loop_http_requests", "HTTP requests", names, registry=self._registry)
        self._seconds = Histogram(
            "loop_http_seconds", "Seconds to answer", ("route",), registry=self._registry, buckets=_SECONDS
        )
        self._registry.register(_Services(services))

    def watch(self, app: ASGIApp) -> ASGIApp:
        """Wrap an app to time its requests; routes are named by their template, so that ids make no series."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            started, status = time.perf_counter(), 500

            async def noted(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                route = getattr(scope.get("route"), "path", "unmatched")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._calls.labels(method, route, str(status)).inc()
                self._seconds.labels(route).observe(time.perf_counter() - started)

        return watched

    def render(self) -> bytes:
        """Write all metrics as text."""
        return generate_latest(self._registry)


class _Services(Collector):
    """Reads the services' own counts when asked."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        counted = CounterMetricFamily("loop_service", "What a service did", labels=("case", "what"))
        age = GaugeMetricFamily("loop_features_as_of", "Unix time of the features served", labels=("case",))
        version = GaugeMetricFamily(
            "loop_model_version", "Version that answers; 0: the heuristic", labels=("case",)
        )
        share = GaugeMetricFamily(
            "loop_challenger_share", "Share of the units that meet a challenger; 0: none", labels=("case",)
        )
        for name, service in self._services.items():
            for what, count in sorted(service.counts.items()):
                counted.add_metric((name, what), count)
            age.add_metric((name,), service.state.stock.moment.timestamp())
            version.add_metric((name,), float(service.state.first.version or 0))
            trial = service.state.trial
            share.add_metric((name,), trial.running.share if trial is not None else 0.0)
        yield from (counted, age, version, share)
