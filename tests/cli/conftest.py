"""A fake cloud, and `skerry` pointed at it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from skerry.cli.main import app
from tests.cli.fake_cloud import ME, OPERATOR_KEY, PROJECT_KEY, FakeCloud, listed, started

Run = Callable[..., Result]


@pytest.fixture
def cloud() -> Iterator[FakeCloud]:
    fake = FakeCloud()
    fake.answers |= {
        "GET /api/v1/whoami": (200, {**ME, "scopes": ["inference", "read"], "operator": False}),
        "GET /v1/models": listed({"id": "tiny"}, {"id": "other"}),
    }
    server = started(fake)
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, cloud: FakeCloud) -> Path:
    """A SKERRY_HOME as `skerry up` leaves it."""
    content = f'url = "{cloud.url}"\noperator_key = "{OPERATOR_KEY}"\nproject_key = "{PROJECT_KEY}"\n'
    (tmp_path / "credentials.toml").write_text(content)
    return tmp_path


@pytest.fixture
def env(home: Path) -> dict[str, str | None]:
    cleared = dict.fromkeys(("SKERRY_URL", "SKERRY_API_KEY", "SKERRY_PROFILE", "SKERRY_DEBUG"))
    return {**cleared, "SKERRY_HOME": str(home)}


@pytest.fixture
def run(env: dict[str, str | None]) -> Run:
    """`skerry …` in this process, without a terminal."""

    def invoke(*args: str, input: str | None = None, **more: str) -> Result:
        result = CliRunner(env={**env, **more}).invoke(app, list(args), input=input, prog_name="skerry")
        # A Failure or an exit is how a command ends; anything else is a bug.
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke
