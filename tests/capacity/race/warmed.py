"""Imported by the server that the race's processes are forked from: none of them loads machine code once more."""

from skerry.capacity.calendar.warming import warm

warm()
