"""Spans to an OpenTelemetry collector, by OpenTelemetry's own exporter (the optional extra `otel`)."""

import encodings.idna
import netrc
from collections.abc import Sequence
from typing import Any, Final

from skerry.inference.requests.spans import Span

INSTALL: Final = "pip install 'skerry[otel]'"
TIMEOUT_SECONDS: Final = 10.0
# Loaded while Python's folders can be read: the exporter's HTTP client looks for them at its first request.
_LOADED: Final = (encodings.idna, netrc)


class TracingUnavailable(RuntimeError):
    """OpenTelemetry is not installed; the message says how to get it."""


class OtlpSink:
    """Sends over HTTP to `endpoint`/v1/traces. `OTEL_EXPORTER_OTLP_HEADERS` and its like are the exporter's own.

    Make it before the process loses its way to Python's folders: this is where OpenTelemetry is imported.
    Raises TracingUnavailable.
    """

    def __init__(self, endpoint: str, version: str) -> None:
        try:
            # Who does not trace need not have them, nor wait for their import.
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an optional extra
            from opentelemetry.sdk import trace as sdk  # noqa: PLC0415 - an optional extra
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an optional extra
            from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - an optional extra
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - an optional extra
            from opentelemetry.trace import SpanContext, SpanKind, TraceFlags  # noqa: PLC0415 - an optional extra
            from opentelemetry.trace.status import Status, StatusCode  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise TracingUnavailable(f"SKERRY_OTEL_ENDPOINT is set, but {error.name} is missing: {INSTALL}") from error
        self._sdk, self._context, self._kind, self._flags = sdk, SpanContext, SpanKind, TraceFlags
        self._ok, self._status, self._code = SpanExportResult.SUCCESS, Status, StatusCode
        self._resource = Resource.create({"service.name": "skerry-gateway", "service.version": version})
        self._scope = InstrumentationScope("skerry", version)
        self._exporter: Any = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_SECONDS)

    def export(self, spans: Sequence[Span]) -> bool:
        return bool(self._exporter.export([self._readable(span) for span in spans]) is self._ok)

    def close(self) -> None:
        self._exporter.shutdown()

    def _readable(self, span: Span) -> Any:
        flags = self._flags(self._flags.SAMPLED)
        parent = None
        if span.parent is not None:
            parent = self._context(span.trace, span.parent, span.remote_parent, flags)
        return self._sdk.ReadableSpan(
            span.name,
            self._context(span.trace, span.id, False, flags),
            parent,
            self._resource,
            span.attributes,
            kind=self._kind.SERVER if span.server else self._kind.INTERNAL,
            status=self._status(self._code.ERROR if span.failed else self._code.UNSET),
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )
