"""The face of inference: what is served, and what people do about it."""

from skerry.inference.service.endpoints import Endpoints
from skerry.inference.service.inference import KIND, Inference, key_purpose

__all__ = ["KIND", "Endpoints", "Inference", "key_purpose"]
