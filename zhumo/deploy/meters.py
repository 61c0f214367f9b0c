"""What the server counts, in Prometheus' form. One registry an app, so that two apps live in one process."""

from collections.abc import Callable

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
        self.queue = Gauge("zhumo_queue_depth", "Requests waiting for a model.", ("model",), registry=self.registry)
        self.cache = Gauge("zhumo_kv_cache_bytes", "Keys and values in memory.", ("model",), registry=self.registry)
        self.running = Gauge("zhumo_running", "Requests a model works on.", ("model",), registry=self.registry)

    def _seconds(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, registry=self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """One request is over. status 0: the client went before an answer."""
        self.requests.labels(route, str(status or 499)).inc()
        self.seconds.labels(route).observe(seconds)

    def watch(self, model: str, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        """Read a model's queue when asked."""
        self.queue.labels(model).set_function(waiting)
        self.running.labels(model).set_function(running)

    def text(self) -> bytes:
        """All meters as Prometheus reads them."""
        return generate_latest(self.registry)
