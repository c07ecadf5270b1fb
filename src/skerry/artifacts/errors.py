"""Refusals of the catalogue. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, Unavailable


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


class HubUnreachable(Unavailable):
    """There is no network, or the hub fails."""

    code = "hub_unreachable"

    def __init__(self, words: str) -> None:
        super().__init__(
            words,
            suggestion="Check the network and SKERRY_HUB_URL, or copy the weights here and add them by `source.path`.",
            errors=[FieldError("source.hub", self.code, words)],
            retry_after=30,
        )


class HubForbids(Invalid):
    code = "hub_forbidden"

    def __init__(self, id: str) -> None:
        words = f"the hub does not give {id} to us: it is gated or private, or there is no such model"
        super().__init__(
            words,
            suggestion="Accept its terms on the hub, and set SKERRY_HUB_TOKEN to a token that may read it.",
            errors=[FieldError("source.hub", self.code, words)],
        )


class UnknownHubModel(Invalid):
    code = "unknown_hub_model"

    def __init__(self, id: str) -> None:
        words = f"the hub has no model {id}, or not that revision of it"
        super().__init__(words, suggestion="Check its id.", errors=[FieldError("source.hub", self.code, words)])


class HubOff(Invalid):
    code = "hub_off"


class EngineUnsupported(Invalid):
    code = "engine_unsupported"
