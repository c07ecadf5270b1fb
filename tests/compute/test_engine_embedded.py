"""The embedded engine passes the suite that every engine passes."""

from tests.compute.engine_conformance import EngineConformance


class TestEmbedded(EngineConformance):
    pass
