"""Skerry: an open-source neocloud."""

from importlib.metadata import version

__version__ = version("skerry")
