"""Node tokens: what a node shows to the control API in the name of one attempt.

`snt_` · payload · `.` · HMAC, both in URL-safe base64. Nothing is stored: a token is good until it lapses or its
attempt has ended, whichever comes first, and a lapsed one is not renewed.
"""

import base64
import binascii
import hmac
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from skerry.kernel.clock import Clock
from skerry.kernel.errors import Unauthorized
from skerry.kernel.ids import AttemptId, ProjectId, WorkloadId
from skerry.runtime.secrets import Keyring

LIFETIME: Final = timedelta(hours=1)
_PREFIX: Final = "snt_"
_PURPOSE: Final = b"skerry node token v1\0"
_LONGEST: Final = 1024


class BadNodeToken(Unauthorized):
    """Not a token of this installation, or lapsed. The same words for all: nobody learns which."""

    code = "bad_node_token"

    def __init__(self) -> None:
        super().__init__("The node token is missing, lapsed, or not one of this installation.")


class AttemptEnded(Unauthorized):
    code = "attempt_ended"

    def __init__(self) -> None:
        super().__init__("The attempt that this token is for has ended.")


@dataclass(frozen=True, slots=True)
class NodeCaller:
    """In whose name a node calls."""

    project: ProjectId
    workload: WorkloadId
    attempt: AttemptId


class NodeTokens:
    """Issues and reads them."""

    def __init__(self, keyring: Keyring, clock: Clock) -> None:
        self._keyring = keyring
        self._clock = clock

    def issue(self, caller: NodeCaller, lifetime: timedelta = LIFETIME) -> str:
        lapses = self._clock.now() + min(lifetime, LIFETIME)
        payload = json.dumps([caller.project, caller.workload, caller.attempt, lapses.timestamp()]).encode()
        return f"{_PREFIX}{_text(payload)}.{_text(self._keyring.hmac(_PURPOSE + payload))}"

    def read(self, token: str | None) -> NodeCaller:
        """Raises BadNodeToken. Whether the attempt is still open is for who knows attempts."""
        if token is None or len(token) > _LONGEST or not token.startswith(_PREFIX):
            raise BadNodeToken
        body, _, mark = token.removeprefix(_PREFIX).partition(".")
        try:
            payload, given = _bytes(body), _bytes(mark)
        except (binascii.Error, ValueError):
            raise BadNodeToken from None
        marks = self._keyring.hmacs(_PURPOSE + payload)
        if not any([hmac.compare_digest(given, right) for right in marks]):
            raise BadNodeToken
        project, workload, attempt, lapses = json.loads(payload)
        if datetime.fromtimestamp(lapses, tz=self._clock.now().tzinfo) <= self._clock.now():
            raise BadNodeToken
        return NodeCaller(ProjectId(project), WorkloadId(workload), AttemptId(attempt))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
