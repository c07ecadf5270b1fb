"""What people may want of an endpoint: whether it is sound, and what can be done now."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from skerry.artifacts.model import Model
from skerry.identity.model import Principal, Scope
from skerry.inference.errors import BadEndpoint
from skerry.inference.model import Desired, Endpoint, EndpointKind, EndpointView, NewEndpoint, ReasonCode
from skerry.inference.rules.autoscaling import IDLE_SECONDS
from skerry.kernel.errors import FieldError

MAX_REPLICAS: Final = 64
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,126}")
CAPACITY_CLASSES: Final = ("on_demand", "spot")
VERBS: Final = ("scale", "drain", "resume", "rollout", "remove", "logs")
_UPSTREAM: Final = "Its replicas are upstreams that somebody else runs."


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many replicas there may be, and when they go."""

    least: int
    most: int
    idle_timeout_seconds: int | None


def check_new(new: NewEndpoint, model: Model, *, launches: bool) -> NewEndpoint:
    """With what was left open filled in. Raises BadEndpoint with all that is wrong."""
    dedicated = new.kind is EndpointKind.DEDICATED
    errors = []
    if new.name is not None and not NAME.fullmatch(new.name):
        words = "an endpoint's name is up to 127 small letters, digits and . _ -"
        errors.append(FieldError("name", "bad_endpoint_name", words))
    if new.capacity_class not in CAPACITY_CLASSES:
        words = f"capacity_class is one of {', '.join(CAPACITY_CLASSES)}"
        errors.append(FieldError("capacity_class", "bad_capacity_class", words))
    if not launches:
        words = f"{model.name} is served by upstreams, of which nobody can have replicas of their own"
        errors.append(FieldError("model", "upstream_model", words))
    least = (0 if dedicated else 1) if new.min_replicas is None else new.min_replicas
    most = max(1, least) if new.max_replicas is None else new.max_replicas
    errors += _bounds(least, most)
    accelerators = new.accelerators
    if accelerators is None:
        accelerators = 1 if dedicated else 0
    if dedicated and accelerators < 1:
        words = "a dedicated endpoint is paid by the time of its accelerators, so each replica has one at least"
        errors.append(FieldError("accelerators", "out_of_range", words))
    _refuse(errors)
    idle = new.idle_timeout_seconds
    return replace(
        new,
        min_replicas=least,
        max_replicas=most,
        accelerators=accelerators,
        idle_timeout_seconds=IDLE_SECONDS if idle is None and not least else idle,
    )


def check_scale(endpoint: Endpoint, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What to write. Raises BadEndpoint."""
    values = dict(wanted)
    least = values.get("min_replicas", endpoint.min_replicas)
    most = values.get("max_replicas", max(endpoint.max_replicas, least))
    errors = _bounds(least, most)
    _refuse(errors)
    if "min_replicas" in values:
        values["max_replicas"] = most
    idle = values.get("idle_timeout_seconds", endpoint.idle_timeout_seconds)
    if not least and idle is None:
        values["idle_timeout_seconds"] = IDLE_SECONDS
    return values


def why_not(view: EndpointView, principal: Principal) -> dict[str, str | None]:
    """For each verb, why it cannot be done now; None: it can."""
    endpoint, launches = view.endpoint, view.launches
    barred = _barred(endpoint, principal)
    found: dict[str, str | None] = dict.fromkeys(VERBS, barred)
    found["logs"] = _unreadable(endpoint, principal) or (None if launches else _UPSTREAM)
    if barred:
        return found
    if endpoint.removed_at is not None:
        return {**dict.fromkeys(VERBS, "It was removed."), "logs": found["logs"]}
    if not launches:
        found["scale"] = found["rollout"] = _UPSTREAM
    stopped = endpoint.desired is Desired.STOP
    lost = endpoint.stop_code == ReasonCode.MODEL_REMOVED
    if stopped:
        found["rollout"] = "It is drained: resume it first."
        found["drain"] = "It is drained already."
    if lost:
        found |= dict.fromkeys(("scale", "resume", "rollout"), "Its model was removed from the catalogue.")
    elif not stopped and endpoint.parked_at is None and (endpoint.wanted or not launches):
        found["resume"] = "It is wanted already."
    if endpoint.parked_at is not None:
        found["drain"] = "It is parked: nothing of it runs."
    if endpoint.kind is EndpointKind.SHARED and endpoint.name == view.model_name:
        found["remove"] = "It comes and goes with its model: remove that."
    return found


def _barred(endpoint: Endpoint, principal: Principal) -> str | None:
    if principal.operator:
        return None
    if endpoint.kind is EndpointKind.SHARED or endpoint.project != principal.project_id:
        return "A shared endpoint is scaled by the operator of this cloud."
    return None if Scope.WRITE in principal.scopes else "The key has not the scope write."


def _unreadable(endpoint: Endpoint, principal: Principal) -> str | None:
    mine = endpoint.kind is EndpointKind.DEDICATED and endpoint.project == principal.project_id
    return None if mine or principal.operator else "The logs of a shared endpoint are the operator's."


def _bounds(least: int, most: int) -> list[FieldError]:
    errors = []
    if not 0 <= least <= MAX_REPLICAS:
        errors.append(FieldError("min_replicas", "out_of_range", f"min_replicas is 0 to {MAX_REPLICAS}"))
    if not 1 <= most <= MAX_REPLICAS:
        errors.append(FieldError("max_replicas", "out_of_range", f"max_replicas is 1 to {MAX_REPLICAS}"))
    elif least > most:
        words = f"max_replicas ({most}) is less than min_replicas ({least})"
        errors.append(FieldError("max_replicas", "out_of_range", words))
    return errors


def _refuse(errors: list[FieldError]) -> None:
    if errors:
        code = errors[0].code if len(errors) == 1 else None
        raise BadEndpoint("; ".join(error.message for error in errors), code=code, errors=errors)
