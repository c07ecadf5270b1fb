"""The shipper role: copies the journals of this host's gateways into the database, and their traces to a collector."""

import asyncio
import contextlib
import os

import structlog
from prometheus_client import CollectorRegistry, Gauge

from skerry import __version__
from skerry.db.database import Database
from skerry.inference.requests.otlp import OtlpSink, TracingUnavailable
from skerry.inference.requests.tracing import TracedIntake, Tracer
from skerry.metering.journal_intake import JournalIntake
from skerry.metering.shipper import Intake, Shipper
from skerry.runtime import telemetry
from skerry.runtime.settings import Settings
from skerry.server.compose import build
from skerry.server.context import RoleContext

ROLE = "shipper"
LAST_TRACES_SECONDS = 3.0


def preload() -> None:
    """What traces need is imported while Python's folders can still be read."""
    with contextlib.suppress(TracingUnavailable):
        trace_sink(Settings.from_env())


async def run(context: RoleContext) -> None:
    """Ship until `context.stopping` is set, and then what is left."""
    settings = context.settings
    db = Database(context.database_url, pool_size=2, name="skerry-shipper")
    services = build(settings, db, context.keyring)
    intake: Intake = JournalIntake(
        db, services.clock, services.metering, services.billing.balances, answers=services.requests
    )
    tracer = _tracer(settings)
    if tracer is not None:
        intake = TracedIntake(intake, tracer)
    shipper = Shipper(settings.journal, intake)
    path = telemetry.socket_path(settings.run, ROLE, os.getpid())
    page = await telemetry.serve(_registry(shipper, tracer), path)
    tracing = asyncio.create_task(tracer.run()) if tracer is not None else None
    try:
        await shipper.run(context.stopping)
        if tracer is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tracer.flush(), LAST_TRACES_SECONDS)
    finally:
        if tracing is not None:
            tracing.cancel()
        page.close()
        path.unlink(missing_ok=True)
        await db.close()


def trace_sink(settings: Settings) -> OtlpSink | None:
    """None where no traces are wanted. Raises TracingUnavailable."""
    return OtlpSink(settings.otel_endpoint, __version__) if settings.otel_endpoint else None


def _tracer(settings: Settings) -> Tracer | None:
    """Without OpenTelemetry the usage is shipped all the same."""
    try:
        sink = trace_sink(settings)
    except TracingUnavailable as error:
        structlog.get_logger("traces").error("traces_off", reason=str(error))
        return None
    return Tracer(sink, settings.otel_sample) if sink is not None else None


def _registry(shipper: Shipper, tracer: Tracer | None) -> CollectorRegistry:
    registry = CollectorRegistry()
    lag = Gauge(
        "skerry_journal_lag_seconds", "Time since all journals were last found to be shipped.", registry=registry
    )
    lag.set_function(lambda: shipper.behind_seconds)
    shipped = Gauge("skerry_journal_shipped_records", "Records shipped since the start.", registry=registry)
    shipped.set_function(lambda: float(shipper.shipped))
    if tracer is not None:
        exported = Gauge("skerry_traces_exported", "Answers whose spans a collector has taken.", registry=registry)
        exported.set_function(lambda: float(tracer.exported))
        dropped = Gauge("skerry_traces_dropped", "Answers whose spans nobody has taken.", registry=registry)
        dropped.set_function(lambda: float(tracer.dropped))
    return registry
