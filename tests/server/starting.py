"""Helpers of the server's tests that need no fixture."""

import asyncio

from skerry.db.database import Database
from skerry.identity.model import Bootstrap
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings
from skerry.server.compose import build


def keyring() -> Keyring:
    return Keyring([("k1", b"a secret of the tests")])


def bootstrapped(settings: Settings, database_url: str) -> Bootstrap:
    """The first start, for tests whose server runs elsewhere (another thread, another process)."""

    async def start() -> Bootstrap:
        db = Database(database_url)
        try:
            services = build(settings, db, keyring())
            await services.billing.bootstrap(settings.currency)
            return await services.identity.bootstrap()
        finally:
            await db.close()

    return asyncio.run(start())
