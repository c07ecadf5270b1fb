"""What each rank of an attempt reported, and what is not charged of it."""

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    pass
