"""Refusals of identity. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized


class MissingKey(Unauthorized):
    code = "missing_key"


class UnknownKey(Unauthorized):
    code = "unknown_key"


class ExpiredKey(Unauthorized):
    code = "expired_key"


class RevokedKey(Unauthorized):
    code = "revoked_key"


class MissingScope(Forbidden):
    code = "missing_scope"


class GrantTooWide(Forbidden):
    """A key tried to hand out, or to take over, more than it has itself."""

    code = "grant_too_wide"


class OperatorRequired(Forbidden):
    code = "operator_required"


class HomeProjectRequired(Forbidden):
    code = "home_project_required"


class ContentNotYours(Forbidden):
    """What a project's users say is logged if the project itself wants that, nobody else."""

    code = "content_not_yours"


class BuiltInProject(Conflict):
    """Skerry finds it by its name."""

    code = "built_in_project"


class UnknownProject(NotFound):
    code = "unknown_project"


class AmbiguousProject(Invalid):
    code = "ambiguous_project"


class NameTaken(Conflict):
    code = "name_taken"


class LastOwner(Conflict):
    code = "last_owner"


class KeyNotActive(Conflict):
    code = "key_not_active"
