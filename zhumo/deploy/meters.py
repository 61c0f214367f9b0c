"""What the server counts, in Prometheus' form. One registry an app, so that two apps live in one process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Meters:
    """All meters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("zhumo_requests", "Answered requests.", ("route", "code"), registry=self.registry)
        self.seconds = self._seconds("zhumo_request_seconds", "First byte in to last byte out.", ("route",))
        self.first_token = self._seconds("zhumo_time_to_first_token_seconds", "From request to first text.", ("model",))
        self.next_token = self._seconds("zhumo_inter_token_seconds", "Between two pieces of a stream.", ("model",))
        self.tokens = Counter("zhumo_tokens", "Tokens read and written.", ("model", "kind"), registry=self.registry)
        self.shed = Counter("zhumo_shed", "Requests turned away unread.", ("reason",), registry=self.registry)
        self.queue = self._now("zhumo_queue_depth", "Requests waiting for a model.")
        self.running = self._now("zhumo_running", "Requests a model works on.")
        self.cache = self._now("zhumo_kv_cache_usage_ratio", "Part of the room for keys and values that is taken.")

    def _seconds(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, registry=self.registry)

    def _now(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ("model",), registry=self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request is over. status 0: the client went before an answer."""
        self.requests.labels(route, str(status or 499)).inc()
        self.seconds.labels(route).observe(seconds)

    def observe(self, model: str, waiting: float, running: float, cache: float) -> None:
        """How a model stands now."""
        for gauge, value in ((self.queue, waiting), (self.running, running), (self.cache, cache)):
            gauge.labels(model).set(value)

    def text(self) -> bytes:
        """All meters as Prometheus reads them."""
        return generate_latest(self.registry)
