"""Files on a real database and a real folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.artifacts.files.errors import BadFile
from skerry.artifacts.files.model import FileLimits, Purpose
from skerry.artifacts.files.service import Files
from skerry.artifacts.files.storage import LocalStorage
from skerry.artifacts.files.sweeper import FileSweeper
from skerry.db.database import Database
from skerry.identity.model import Principal
from skerry.identity.service import Identity
from skerry.kernel.clock import FakeClock
from skerry.kernel.ids import ProjectId
from skerry.metering.service import Metering
from skerry.runtime.events import EventLog

KIB = 1024


class Shouting:
    """A check that takes capital letters only, and counts them."""

    def __init__(self) -> None:
        self.seen = 0

    def feed(self, chunk: bytes) -> None:
        if not chunk.isupper():
            raise BadFile("it must be shouted")
        self.seen += len(chunk)

    def finish(self):
        return {"letters": self.seen}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def storage(folder: Path) -> LocalStorage:
    return LocalStorage(folder)


@pytest.fixture
def metering(database: Database, clock: FakeClock) -> Metering:
    return Metering(database, clock)


@pytest.fixture
def files(
    database: Database,
    clock: FakeClock,
    events: EventLog,
    identity: Identity,
    metering: Metering,
    storage: LocalStorage,
) -> Files:
    limits = FileLimits(file_bytes=4 * KIB * KIB, project_bytes=10 * KIB * KIB, project_files=20)
    purposes = [Purpose("notes"), Purpose("shouting", Shouting, max_bytes=KIB), Purpose("ours", uploads=False)]
    return Files(database, clock, events, identity, metering, storage, limits, purposes)


@pytest.fixture
def sweeper(files: Files) -> FileSweeper:
    return FileSweeper(files)


@pytest.fixture
def customer(people) -> Principal:
    return people.customer


@pytest.fixture
def stranger(people) -> Principal:
    """Of a project that has nothing to do with the customer's."""
    return replace(people.customer, project_id=ProjectId("proj_elsewhere"))
