"""The node side of the control plane, built from what is below it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import APIRouter

from skerry.artifacts.files.service import Files
from skerry.compute.engines.embedded.client import EmbeddedEngine
from skerry.compute.isolation import Isolation
from skerry.compute.nodes.access import NodeAccess
from skerry.compute.nodes.artifacts import Artifacts
from skerry.compute.nodes.contexts import NodeSide, TaskContexts
from skerry.compute.nodes.routes import router
from skerry.compute.nodes.tokens import NodeTokens
from skerry.compute.nodes.users import ProjectUsers
from skerry.compute.service import Compute
from skerry.compute.task.wrapping import Roots
from skerry.identity.service import Identity
from skerry.runtime.secrets import Keyring
from skerry.runtime.settings import Settings

NODE_STATE: Final = Path("/var/lib/skerry/slurm")
"""On nodes of a fleet, unless the settings name another folder."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """`access` is the door for routes of other domains below `/api/v1/node`."""

    access: NodeAccess
    isolation: Isolation
    contexts: TaskContexts
    artifacts: Artifacts
    router: APIRouter


def build_nodes(settings: Settings, compute: Compute, keyring: Keyring, identity: Identity, files: Files) -> Nodes:
    tokens = NodeTokens(keyring, compute.clock)
    access = NodeAccess(compute.db, tokens)
    isolation = Isolation(identity, compute.engines)
    users = ProjectUsers(settings.project_uids)
    sides = {name: side_of(settings, name) for name in compute.engines}
    contexts = TaskContexts(compute.db, files, tokens, users, isolation, sides)
    artifacts = Artifacts(settings.files / "artifacts", settings.artifacts_quota_bytes, settings.files_keep_free_bytes)
    return Nodes(access, isolation, contexts, artifacts, router(compute, files, artifacts, tokens, access))


def side_of(settings: Settings, engine: str) -> NodeSide:
    """This machine is reached by a socket; a fleet's nodes come over the network, by the public port."""
    here = engine == EmbeddedEngine.name
    roots = Roots(
        state=str(settings.state if here else settings.slurm_work or NODE_STATE),
        shared=_text(settings.shared),
        volumes=_text(settings.volumes),
        one_host=here or settings.slurm_shared is None,  # that one is needed once a node is another machine
        hidden=tuple({str(settings.home), str(settings.state)}),
        shown=tuple(folder for folder in settings.task_folders.split(":") if folder),
    )
    url = settings.server_url if here else settings.node_url or settings.url
    return NodeSide(url, roots, sys.executable, settings.sandbox_trusted)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
