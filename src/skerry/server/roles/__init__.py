"""The roles: one module each, run by `server/role.py`."""

ROLES = ("gateway", "shipper", "server", "controller", "agent")
KEEPS_ROOT = ("agent",)
"""The engine's agent starts workloads as other users; nobody else needs root."""
PARENT = "SKERRY_LAUNCHER_PID"
"""Set for the process of a role; without it, `gateway`, `server` and `controller` start a launcher of that role."""
ROLES_HERE = "SKERRY_ROLES"
"""Names of the roles of this launcher, with commas: what its bootstrap has to see to."""
VIRTUAL_NODES = "SKERRY_VIRTUAL_NODES"
"""How many nodes this machine is divided into."""
