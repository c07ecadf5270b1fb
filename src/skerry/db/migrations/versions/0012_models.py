"""Hub sources and several upstreams of a model."""

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    pass
