"""SQL of inference."""

from typing import Final

from sqlalchemy import Table

from skerry.inference.store.demand import DemandStore
from skerry.inference.store.endpoints import InferenceStore
from skerry.inference.store.work import Claimed, EndpointWork
from skerry.inference.tables import endpoints, replicas

__all__ = ["ENDPOINTS", "REPLICAS", "Claimed", "DemandStore", "EndpointWork", "InferenceStore"]

ENDPOINTS: Final[Table] = endpoints
REPLICAS: Final[Table] = replicas
"""For `runtime.state.transition`."""
