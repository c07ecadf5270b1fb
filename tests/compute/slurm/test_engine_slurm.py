"""The Slurm engine passes the suite that every engine passes, on a real Slurm of four nodes."""

from tests.compute.engine_conformance import EngineConformance


class TestSlurm(EngineConformance):
    pass
