"""Reports stand on the same fixtures as billing."""

from tests.billing.conftest import (  # noqa: F401
    app,
    billing,
    customer,
    identity,
    metering,
    operator,
    people,
)
