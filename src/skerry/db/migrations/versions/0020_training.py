"""Training jobs, what they reported and measured."""

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    pass
