"""Refusals of the catalogue. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, Forbidden, Invalid, NotFound


class UnknownModel(NotFound):
    code = "unknown_model"


class ModelNameTaken(Conflict):
    code = "model_name_taken"


class OperatorOnly(Forbidden):
    """A local path and an upstream reach into the operator's machines and network."""

    code = "operator_required"


class BadModelName(Invalid):
    code = "bad_model_name"


class BadSource(Invalid):
    """Subcodes say what is wrong with the path, the upstream or their fit to the engine."""

    code = "bad_source"


class BadWeights(Invalid):
    """The file is there, but it is not a model that can be served."""

    code = "bad_weights"


class BadContext(Invalid):
    code = "bad_context_length"


class HubUnavailable(Invalid):
    code = "hub_unavailable"


class EngineUnsupported(Invalid):
    code = "engine_unsupported"
