"""Skerry: an open-source neocloud."""

__version__ = "0.1.0"
