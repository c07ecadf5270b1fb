"""What has to be there before the roles start: the schema, the first keys, prices, this machine, the default model."""

import asyncio
import os
import sys

from skerry.artifacts.default import default_models
from skerry.db import migrate
from skerry.db.database import Database
from skerry.db.migrate import NewerDatabase
from skerry.fleet.discover import discover
from skerry.fleet.local import said
from skerry.kernel.errors import SkerryError
from skerry.runtime import log
from skerry.runtime.secrets import BadKeyring, Keyring
from skerry.runtime.settings import Settings
from skerry.server import credentials
from skerry.server.compose import Services, build
from skerry.server.roles import ROLES, ROLES_HERE, VIRTUAL_NODES


def bootstrap(settings: Settings) -> int:
    """Bring the database up to date and make what the first start makes. The exit status; a line on stderr says why."""
    log.configure("bootstrap", "error")
    url = settings.database_url or ""
    try:
        migrate.upgrade(url)
        keyring = Keyring.load(settings.home)
        asyncio.run(_first_start(settings, url, keyring))
    except (NewerDatabase, BadKeyring) as error:
        return _fail(str(error))
    except SkerryError as error:
        return _fail(error.detail)
    return 0


async def _first_start(settings: Settings, url: str, keyring: Keyring) -> None:
    db = Database(url, pool_size=2, name="skerry-bootstrap")
    try:
        services = build(settings, db, keyring)
        here = set(os.environ.get(ROLES_HERE, ",".join(ROLES)).split(","))
        if "server" in here:
            await _organizations(services)
        if "agent" in here and settings.compute_engine == "embedded":
            async with db.transaction() as tx:
                found = await services.fleet.discover_local(tx, discover(), int(os.environ.get(VIRTUAL_NODES) or 1))
            for line in said(found):
                print(f"skerry: {line}", file=sys.stderr)  # noqa: T201
        if {"server", "agent"} <= here and settings.default_model:
            for model in default_models():
                await services.catalogue.ensure_default_model(model)
        await services.metering.keep_house()
    finally:
        await db.close()


async def _organizations(services: Services) -> None:
    """The first organizations with keys and credit limits, so that their first request need not wait for one."""
    settings = services.settings
    await services.billing.bootstrap(settings.currency)
    ca_cert = str(settings.tls_cert) if settings.tls_cert else ""
    ensured = await credentials.ensure(services.identity, settings.home, settings.url, ca_cert)
    if ensured.note:
        print(f"skerry: {ensured.note}", file=sys.stderr)  # noqa: T201
    async with services.db.transaction() as tx:
        for project in (await services.identity.platform(tx), (await services.identity.default_project(tx)).id):
            organization = (await services.identity.project(tx, project)).organization_id
            await services.billing.balances.ensure_credit_limit(tx, organization)


def _fail(message: str) -> int:
    print(f"skerry: {message}", file=sys.stderr)  # noqa: T201
    return 2
