"""The shipper role: copies the journals of this host's gateways into the database."""

import os

from prometheus_client import CollectorRegistry, Gauge

from skerry.db.database import Database
from skerry.metering.journal_intake import JournalIntake
from skerry.metering.shipper import Shipper
from skerry.runtime import telemetry
from skerry.server.compose import build
from skerry.server.context import RoleContext

ROLE = "shipper"


async def run(context: RoleContext) -> None:
    """Ship until `context.stopping` is set, and then what is left."""
    settings = context.settings
    db = Database(context.database_url, pool_size=2, name="skerry-shipper")
    services = build(settings, db, context.keyring)
    intake = JournalIntake(db, services.clock, services.metering, services.billing.balances)
    shipper = Shipper(settings.journal, intake)
    registry = CollectorRegistry()
    lag = Gauge(
        "skerry_journal_lag_seconds", "Time since all journals were last found to be shipped.", registry=registry
    )
    lag.set_function(lambda: shipper.behind_seconds)
    shipped = Gauge("skerry_journal_shipped_records", "Records shipped since the start.", registry=registry)
    shipped.set_function(lambda: float(shipper.shipped))
    path = telemetry.socket_path(settings.run, ROLE, os.getpid())
    page = await telemetry.serve(registry, path)
    try:
        await shipper.run(context.stopping)
    finally:
        page.close()
        path.unlink(missing_ok=True)
        await db.close()
