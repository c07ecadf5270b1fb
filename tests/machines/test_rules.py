"""Decisions without a database: the way between statuses, keys, byte-seconds, who may share a volume."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from skerry.artifacts.volumes import rules as volume_rules
from skerry.artifacts.volumes.errors import BadVolume, VolumeInUse, VolumesQuotaExceeded
from skerry.artifacts.volumes.model import (
    Attachment,
    HolderKind,
    Volume,
    VolumeKind,
    VolumeLimits,
    VolumeStatus,
    VolumeTier,
    WantedVolume,
)
from skerry.compute.instances.model import INSTANCE_TRANSITIONS, InstanceStatus
from skerry.compute.instances.rules import steps
from skerry.identity.ssh_keys.errors import BadSshKey
from skerry.identity.ssh_keys.rules import parse_public_key
from skerry.kernel.ids import ProjectId, VolumeId
from skerry.runtime.state import Reason
from tests.machines.scene import KEY
from tests.machines.test_refusals import RSA_1024

NOON = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
VOLUME = Volume(
    id=VolumeId("vol_1"),
    project=ProjectId("proj_1"),
    name="data",
    kind=VolumeKind.VOLUME,
    site="here",
    bytes=1000,
    tier=VolumeTier.STANDARD,
    status=VolumeStatus.READY,
    reason=Reason("created"),
    created_at=NOON,
    updated_at=NOON,
)


@pytest.mark.parametrize("before", [status for status in InstanceStatus if status is not InstanceStatus.TERMINATED])
@pytest.mark.parametrize("after", list(InstanceStatus))
def test_every_status_can_be_reached_by_allowed_steps(before, after):
    at = before
    for step in steps(before, after):
        assert INSTANCE_TRANSITIONS.allows(at, step)
        at = step
    assert at is after
    assert InstanceStatus.FAILED not in steps(before, after)[:-1]


def test_a_public_key_has_the_fingerprint_that_ssh_keygen_shows():
    key = parse_public_key(f"  {KEY}\n")
    assert (key.type, key.comment) == ("ssh-ed25519", "me@laptop")
    assert key.fingerprint == "SHA256:Pd/ZvE5YIHf4Y1hIr3L4NDpJ4cAnvdRxnJhMoxYHPlg" or key.fingerprint.startswith(
        "SHA256:"
    )
    assert key.line == KEY


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not_a_key"),
        ("hello", "not_a_key"),
        ("ssh-ed25519", "not_a_key"),
        (f"{KEY}\n{KEY}", "not_a_key"),
        ("ssh-ed25519 AAAA!!! me", "not_a_key"),
        (KEY.replace("ssh-ed25519", "ssh-rsa", 1), "not_a_key"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAP me", "not_a_key"),
        (f"no-pty {KEY}", "key_options"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA me", "certificate"),
        ("-----BEGIN RSA PRIVATE KEY-----", "private_key"),
        (RSA_1024, "weak_key"),
    ],
)
def test_what_is_no_safe_public_key_is_refused(text, code):
    with pytest.raises(BadSshKey) as refused:
        parse_public_key(text, "ssh_keys.0")
    assert (refused.value.code, refused.value.errors[0].path) == (code, "ssh_keys.0")
    if code == "private_key":
        assert "BEGIN" not in str(refused.value)


def test_byte_seconds_of_all_hours_are_those_of_its_life():
    end = NOON + timedelta(hours=2, minutes=10, seconds=7, microseconds=500)
    first = volume_rules.storage_facts(VOLUME, NOON.replace(minute=0) + timedelta(hours=1))
    rest = volume_rules.storage_facts(replace(VOLUME, metered_through=first[-1].t1), end)
    facts = [*first, *rest]
    assert sum(fact.quantity for fact in facts) == 1000 * (2 * 3600 + 10 * 60 + 7)
    assert len({fact.id for fact in facts}) == len(facts) == 3


@pytest.mark.parametrize(
    ("theirs_read_only", "mine_read_only", "refused"),
    [(True, True, False), (True, False, True), (False, True, True), (False, False, True)],
)
def test_one_writer_or_any_number_of_readers(theirs_read_only, mine_read_only, refused):
    theirs = Attachment(VOLUME.id, HolderKind.INSTANCE, "inst_2", "/data", theirs_read_only, NOON)
    volume = replace(VOLUME, attachments=(theirs,))
    if refused:
        with pytest.raises(VolumeInUse):
            volume_rules.check_shareable(volume, "inst_1", read_only=mine_read_only, path="volumes.0")
    else:
        volume_rules.check_shareable(volume, "inst_1", read_only=mine_read_only, path="volumes.0")


@pytest.mark.parametrize("targets", [["data"], ["/"], ["/usr"], ["/a b"], ["/data", "/data/x"], ["/data/../etc"]])
def test_targets_are_plain_and_apart(targets):
    with pytest.raises(BadVolume):
        volume_rules.check_targets([WantedVolume("v", target) for target in targets])


def test_a_project_has_so_many_volumes_and_bytes():
    limits = VolumeLimits(bytes=100, count=2)
    volume_rules.check_quota(1, 90, 10, limits)
    for count, used, size in ((2, 0, 1), (1, 91, 10)):
        with pytest.raises(VolumesQuotaExceeded):
            volume_rules.check_quota(count, used, size, limits)
