"""Counters of this process and their Prometheus text. Knows numbers and names; asks nobody."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from serving.gateway.roles import Route

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(kw_only=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.sum_s += seconds
        place = next((n for n, bound in enumerate(BUCKETS_S) if seconds <= bound), len(BUCKETS_S))
        self.counts[place] += 1


class Metrics:
    """Requests by route and status, how long they took, how many are under way. Written by one event loop."""

    def __init__(self) -> None:
        self.under_way = 0
        self._requests: dict[tuple[Route, int], int] = defaultdict(int)
        self._seconds: dict[Route, _Histogram] = defaultdict(_Histogram)

    def count(self, route: Route, status: int, seconds: float) -> None:
        self._requests[route, status] += 1
        self._seconds[route].observe(seconds)

    def text(self, gauges: "Iterable[Gauge]") -> str:
        lines = [
            "# HELP cloister_http_requests_total Requests answered, by route and status.",
            "# TYPE cloister_http_requests_total counter",
        ]
        for (route, status), count in sorted(self._requests.items()):
            lines.append(
                sample("cloister_http_requests_total", {"method": route[0], "route": route[1], "status": str(status)}, count)
            )
        lines += [
            "# HELP cloister_http_request_seconds Time until the answer was sent.",
            "# TYPE cloister_http_request_seconds histogram",
        ]
        for route, histogram in sorted(self._seconds.items()):
            lines += _histogram(route, histogram)
        own = Gauge(
            name="cloister_http_requests_under_way", help="Requests under way in this process.", samples=(({}, self.under_way),)
        )
        for gauge in (own, *gauges):
            lines += [f"# HELP {gauge.name} {gauge.help}", f"# TYPE {gauge.name} gauge"]
            lines += [sample(gauge.name, labels, value) for labels, value in gauge.samples]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, kw_only=True)
class Gauge:
    name: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def _histogram(route: Route, histogram: _Histogram) -> list[str]:
    labels = {"method": route[0], "route": route[1]}
    lines, total = [], 0
    for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], histogram.counts, strict=True):
        total += count
        lines.append(sample("cloister_http_request_seconds_bucket", {**labels, "le": bound}, total))
    lines.append(sample("cloister_http_request_seconds_sum", labels, round(histogram.sum_s, 6)))
    lines.append(sample("cloister_http_request_seconds_count", labels, total))
    return lines


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{shown}}} {value}" if shown else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
