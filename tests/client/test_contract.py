"""The client's answers against the server's own schemas: what the client names, the server sends."""

import msgspec
import pytest
from pydantic import BaseModel

from skerry.artifacts.files.schemas import FileOut
from skerry.artifacts.schemas import ModelOut
from skerry.artifacts.volumes import schemas as volume_schemas
from skerry.capacity.schemas import fields as capacity_fields
from skerry.capacity.schemas import quotes as capacity_quotes
from skerry.capacity.schemas import reservations as capacity_reservations
from skerry.client.answers import capacity, machines
from skerry.client.answers.base import Answer
from skerry.client.answers.identity import (
    ApiKey,
    AuditEvent,
    AuditVerdict,
    KeyLimits,
    Member,
    Organization,
    Project,
    RateLimits,
    Whoami,
)
from skerry.client.answers.inference import ColdStart, Endpoint, EndpointEstimate, Load, Model, Replica
from skerry.client.answers.money import UsageRow
from skerry.client.answers.runtime import Event
from skerry.client.answers.work import (
    Batch,
    BatchCost,
    BatchError,
    BatchEstimate,
    File,
    LoggedRequest,
    RequestContent,
    RequestCounts,
    RequestTimings,
    RequestTokens,
)
from skerry.compute.instances import schemas as machine_schemas
from skerry.identity.schemas.audit import AuditEventOut, AuditVerdictOut
from skerry.identity.schemas.base import RateLimitsBody
from skerry.identity.schemas.keys import LimitsBody, MintedKeyOut, WhoamiOut
from skerry.identity.schemas.tenants import MemberOut, OrganizationOut, ProjectOut
from skerry.identity.ssh_keys.schemas import SshKeyOut
from skerry.inference.batches import schemas as batches
from skerry.inference.requests import schemas as log
from skerry.inference.schemas import ColdStartOut, EndpointOut, EstimateOut, LoadOut, ReplicaOut
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
        (RateLimits, RateLimitsBody),
        (Model, ModelOut),
        (Endpoint, EndpointOut),
        (Replica, ReplicaOut),
        (EndpointEstimate, EstimateOut),
        (Load, LoadOut),
        (ColdStart, ColdStartOut),
        (File, FileOut),
        (Batch, batches.BatchOut),
        (BatchCost, batches.CostOut),
        (BatchError, batches.BatchErrorOut),
        (BatchEstimate, batches.EstimateOut),
        (RequestCounts, batches.CountsOut),
        (LoggedRequest, log.RequestDetail),
        (RequestTokens, log.TokensOfRequest),
        (RequestTimings, log.TimingsOfRequest),
        (RequestContent, log.ContentOut),
        (capacity.Availability, capacity_quotes.AvailabilityOut),
        (capacity.SiteSchedule, capacity_quotes.SiteScheduleOut),
        (capacity.FreeNodes, capacity_quotes.FreeOut),
        (capacity.Quote, capacity_quotes.QuoteOut),
        (capacity.Offer, capacity_quotes.OfferOut),
        (capacity.NoOffer, capacity_quotes.NoOfferOut),
        (capacity.Leg, capacity_fields.Leg),
        (capacity.ReservedPrice, capacity_fields.Price),
        (capacity.PriceLine, capacity_fields.Line),
        (capacity.OfferEnergy, capacity_fields.Energy),
        (capacity.Reservation, capacity_reservations.ChangedOut),
        (capacity.ReservationEstimate, capacity_reservations.EstimateOut),
        (capacity.ChangeQuote, capacity_reservations.ChangeQuoteOut),
        (capacity.SplitPart, capacity_reservations.PartOut),
        (capacity.DeliveryRecord, capacity_reservations.DeliveryOut),
        (capacity.DeliveryHour, capacity_reservations.DeliveryHour),
        (machines.Instance, machine_schemas.InstanceOut),
        (machines.Cluster, machine_schemas.ClusterOut),
        (machines.ClusterNode, machine_schemas.ClusterNodeOut),
        (machines.Ssh, machine_schemas.SshOut),
        (machines.MachineEstimate, machine_schemas.MachineEstimateOut),
        (machines.Volume, volume_schemas.VolumeOut),
        (machines.Attachment, volume_schemas.AttachmentOut),
        (machines.SshKey, SshKeyOut),
        (UsageRow, UsageRowOut),
        (Event, EventOut),
    ],
    ids=lambda kind: kind.__name__,
)
def test_what_the_client_reads_is_what_the_server_sends(ours: type[Answer], theirs: type[BaseModel]):
    named = {field.encode_name for field in msgspec.structs.fields(ours)}
    sent = {field.serialization_alias or name for name, field in theirs.model_fields.items()}
    assert named <= sent
