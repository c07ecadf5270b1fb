"""The client's answers against the server's own schemas: what the client names, the server sends."""

import msgspec
import pytest
from pydantic import BaseModel

from skerry.artifacts.schemas import ModelOut
from skerry.client.answers.base import Answer
from skerry.client.answers.identity import (
    ApiKey,
    AuditEvent,
    AuditVerdict,
    KeyLimits,
    Member,
    Organization,
    Project,
    Whoami,
)
from skerry.client.answers.inference import Model
from skerry.client.answers.money import UsageRow
from skerry.client.answers.runtime import Event
from skerry.identity.schemas.audit import AuditEventOut, AuditVerdictOut
from skerry.identity.schemas.keys import LimitsBody, MintedKeyOut, WhoamiOut
from skerry.identity.schemas.tenants import MemberOut, OrganizationOut, ProjectOut
from skerry.metering.schemas import UsageRow as UsageRowOut
from skerry.server.events import EventOut


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Whoami, WhoamiOut),
        (Organization, OrganizationOut),
        (Project, ProjectOut),
        (Member, MemberOut),
        (ApiKey, MintedKeyOut),
        (KeyLimits, LimitsBody),
        (AuditEvent, AuditEventOut),
        (AuditVerdict, AuditVerdictOut),
        (Model, ModelOut),
        (UsageRow, UsageRowOut),
        (Event, EventOut),
    ],
    ids=lambda kind: kind.__name__,
)
def test_what_the_client_reads_is_what_the_server_sends(ours: type[Answer], theirs: type[BaseModel]):
    named = {field.encode_name for field in msgspec.structs.fields(ours)}
    sent = {field.serialization_alias or name for name, field in theirs.model_fields.items()}
    assert named <= sent
