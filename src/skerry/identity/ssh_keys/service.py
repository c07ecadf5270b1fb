"""SSH keys of a project: kept under names, so that nobody pastes them twice."""

from collections.abc import Sequence

from skerry.db.database import Database, Tx
from skerry.identity.model import Principal
from skerry.identity.ssh_keys.errors import BadSshKey, SshKeyTaken, UnknownSshKey
from skerry.identity.ssh_keys.model import PublicKey, SshKey
from skerry.identity.ssh_keys.rules import looks_like_key, parse_public_key
from skerry.identity.ssh_keys.store import SshKeyStore
from skerry.identity.trail import Trail
from skerry.kernel.clock import Clock
from skerry.kernel.errors import FieldError
from skerry.kernel.ids import IdFactory, ProjectId, SshKeyId
from skerry.kernel.paging import Page, PageRequest


class SshKeys:
    def __init__(self, db: Database, clock: Clock, trail: Trail, new_id: IdFactory) -> None:
        self.db = db
        self.clock = clock
        self.trail = trail
        self.new_id = new_id
        self.store = SshKeyStore()

    async def create(self, principal: Principal, name: str, public_key: str) -> SshKey:
        """Raises BadSshKey, SshKeyTaken."""
        public = parse_public_key(public_key)
        id = SshKeyId(self.new_id("sshkey"))
        key = SshKey(id, principal.project_id, name, public, self.clock.now())
        async with self.db.transaction() as tx:
            if not await self.store.insert(tx, key):
                raise await self._taken(tx, key)
            await self._note(tx, principal, key, "create")
        return key

    async def get(self, project: ProjectId, ref: str) -> SshKey:
        """By id, name or fingerprint. Raises UnknownSshKey."""
        async with self.db.reading() as tx:
            return await self._require(tx, project, ref)

    async def list(self, project: ProjectId, page: PageRequest) -> Page[SshKey]:
        async with self.db.reading() as tx:
            return await self.store.page(tx, project, page)

    async def delete(self, principal: Principal, ref: str) -> SshKey:
        """Machines that were made with it keep it. Raises UnknownSshKey."""
        async with self.db.transaction() as tx:
            key = await self._require(tx, principal.project_id, ref)
            await self.store.delete(tx, principal.project_id, key.id)
            await self._note(tx, principal, key, "delete")
        return key

    async def resolve(self, tx: Tx, project: ProjectId, refs: Sequence[str], path: str) -> Sequence[PublicKey]:
        """Each a public key, or the name, id or fingerprint of one that is kept; none twice. Raises BadSshKey."""
        found: dict[str, PublicKey] = {}
        for number, ref in enumerate(refs):
            public = await self._public(tx, project, ref, f"{path}.{number}")
            found.setdefault(public.fingerprint, public)
        return tuple(found.values())

    async def _public(self, tx: Tx, project: ProjectId, ref: str, path: str) -> PublicKey:
        if looks_like_key(ref):
            return parse_public_key(ref, path)
        kept = await self.store.find(tx, project, ref)
        if kept is None:
            words = f"there is no SSH key {ref[:100]!r} in this project"
            raise BadSshKey(
                f"{path}: {words}.",
                code="unknown_ssh_key",
                suggestion="`skerry ssh-keys list` shows those there are; a public key itself may stand here too.",
                errors=[FieldError(path, "unknown_ssh_key", words)],
            )
        return kept.public

    async def _require(self, tx: Tx, project: ProjectId, ref: str) -> SshKey:
        key = await self.store.find(tx, project, ref)
        if key is None:
            raise UnknownSshKey(f"there is no SSH key {ref[:100]!r}", suggestion="List them to see which there are.")
        return key

    async def _taken(self, tx: Tx, key: SshKey) -> SshKeyTaken:
        same = await self.store.find(tx, key.project, key.public.fingerprint)
        if same is not None:
            words = f"this key is there already, as {same.name!r}"
            return SshKeyTaken(words, errors=[FieldError("public_key", "ssh_key_exists", words)])
        words = f"there is an SSH key {key.name!r} already"
        errors = [FieldError("name", "ssh_key_exists", words)]
        return SshKeyTaken(words, suggestion="Choose another name, or remove that one.", errors=errors)

    async def _note(self, tx: Tx, principal: Principal, key: SshKey, verb: str) -> None:
        detail = {"name": key.name, "fingerprint": key.public.fingerprint}
        owner = principal.organization_id
        await self.trail.note(tx, principal, owner, key.project, "ssh_key", key.id, verb, detail)
