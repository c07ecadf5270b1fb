"""A fleet file becomes a document, or all that is wrong with it: as it stands, without what there is already."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from skerry.fleet import catalogue
from skerry.fleet.file.fields import NAME
from skerry.fleet.file.hosts import expand
from skerry.fleet.file.model import Document, Entry, Mistake, Section
from skerry.fleet.file.schema import ALWAYS, ONE, SECTIONS
from skerry.fleet.file.tree import BadYaml, List, Map, Tree, Word, read
from skerry.fleet.rules.deliveries import leaves_of_size, wrong_milestones
from skerry.kernel.clock import Clock, rfc3339

MOST_NODES: Final = 200_000
_PLACE: Final = ("leaves", "hall", "leaf_size", "leaf_prefix", "nodes")
"""Fields that say where the nodes of a delivery will stand; they become `leaves`."""


def parse(text: str, clock: Clock) -> tuple[Document, list[Mistake]]:
    """What could be read, and every mistake in it, by line."""
    mistakes: list[Mistake] = []
    try:
        tree = read(text, mistakes)
    except BadYaml as error:
        return Document({}), [*mistakes, error.mistake]
    parser = _Parser(mistakes, clock)
    if isinstance(tree, Map):
        parser.document(tree)
    elif tree is not None and not (isinstance(tree, Word) and tree.empty):
        parser.wrong(tree.line, "", "not_a_fleet", f"a fleet file has sections: {', '.join(Section)}")
    return Document(parser.entries), sorted(mistakes, key=lambda one: one.line)


class _Parser:
    def __init__(self, mistakes: list[Mistake], clock: Clock) -> None:
        self.entries: dict[Section, dict[str, Entry]] = {section: {} for section in Section}
        self._mistakes = mistakes
        self._now = clock.now()

    def wrong(self, line: int, path: str, code: str, message: str) -> None:
        self._mistakes.append(Mistake(line, path, code, message))

    def document(self, tree: Map) -> None:
        for key, value in tree.items.items():
            if key not in set(Section):
                self.wrong(
                    tree.lines.get(key, value.line), key, "unknown_section", f"{key!r} is none of {', '.join(Section)}"
                )
        for section in Section:
            if section not in tree.items:
                continue
            value = tree.items[section]
            if isinstance(value, Word) and value.empty:
                continue
            if not isinstance(value, List):
                self.wrong(value.line, section, "not_a_list", f"{section} is a list")
                continue
            for at, item in enumerate(value.items):
                self._entry(section, f"{section}[{at}]", item)

    def _entry(self, section: Section, path: str, item: Tree) -> None:
        if not isinstance(item, Map):
            self.wrong(item.line, path, "not_a_mapping", f"each of {section} has fields, such as name: …")
            return
        values = self._values(section, path, item)
        missing = [name for name in ALWAYS.get(section, ("name",)) if name not in item.items]
        for name in missing:
            self.wrong(item.line, f"{path}.{name}", "missing", f"{name} is missing")
        if values is None or missing:
            return
        entry = Entry(section, "", path, item.line, values, item.lines)
        for ready in self._named(entry):
            self._add(ready)

    def _values(self, section: Section, path: str, item: Map) -> dict[str, Any] | None:
        """The fields as values; None where one could not be read."""
        schema, values, fine = SECTIONS[section], dict[str, Any](), True
        for name, tree in item.items.items():
            line, where = item.lines.get(name, tree.line), f"{path}.{name}"
            field = schema.get(name)
            if field is None:
                self.wrong(line, where, "unknown_field", f"{name!r} is none of {', '.join(schema)}")
                fine = False
            elif isinstance(tree, Word) and tree.empty and field.nullable:
                values[name] = None
            else:
                try:
                    values[name] = field.read(tree)
                except ValueError as error:
                    self.wrong(line, where, _code(name), f"{name}: {error}")
                    fine = False
        return values if fine else None

    def _named(self, entry: Entry) -> Iterable[Entry]:
        """The entry under the name that it goes by; a line of nodes is many."""
        fields = dict(entry.fields)
        match entry.section:
            case Section.NODES:
                yield from self._nodes(entry, fields)
            case Section.MAINTENANCE:
                if fields["end"] <= fields["start"]:
                    self.wrong(entry.line_of("end"), f"{entry.path}.end", "end_before_start", "end comes after start")
                elif fields["end"] > self._now:  # one that is over is history, not a mistake
                    yield replace(entry, name=maintenance_key(fields))
            case Section.DELIVERIES:
                if (named := self._delivery(entry, fields)) is not None:
                    yield named
            case Section.SKUS:
                name = fields.pop("name")
                known = catalogue.find(name)
                shape = catalogue.fields_of(known) if known is not None else {}
                sources = {key: value for key, value in shape.pop("sources", {}).items() if key not in fields}
                merged = {**shape, **fields, **({"sources": sources} if shape else {})}
                self._check_power(entry, merged)
                yield replace(entry, name=name, fields=merged)
            case _:
                yield replace(entry, name=fields.pop("name"), fields=fields)

    def _nodes(self, entry: Entry, fields: dict[str, Any]) -> Iterable[Entry]:
        try:
            hosts = expand(fields.pop("hostname"))
        except ValueError as error:
            self.wrong(entry.line_of("hostname"), f"{entry.path}.hostname", "bad_hostname", str(error))
            return
        if len(self.entries[Section.NODES]) + len(hosts) > MOST_NODES:
            self.wrong(entry.line, entry.path, "too_many_nodes", f"a file has at most {MOST_NODES} nodes")
            return
        for host in hosts:
            yield Entry(Section.NODES, host, entry.path, entry.line, fields, entry.lines)

    def _check_power(self, entry: Entry, fields: Mapping[str, Any]) -> None:
        tdp, idle = fields.get("tdp_w"), fields.get("idle_w")
        if tdp is not None and idle is not None and idle > tdp:
            message = f"idle_w: a node at rest does not draw more ({idle} W) than at full load ({tdp} W)"
            self.wrong(entry.line_of("idle_w"), f"{entry.path}.idle_w", "idle_above_tdp", message)

    def _delivery(self, entry: Entry, fields: dict[str, Any]) -> Entry | None:
        name, before = fields.pop("name"), len(self._mistakes)
        for milestone, message in wrong_milestones(fields.get("milestones", {}), self._now):
            where = f"{entry.path}.milestones.{milestone}"
            self.wrong(entry.line_of("milestones"), where, "milestone_out_of_order", message)
        leaves = self._leaves(entry, name, fields)
        if leaves is None or len(self._mistakes) > before:
            return None
        kept = {key: value for key, value in fields.items() if key not in _PLACE}
        return replace(entry, name=name, fields={**kept, "leaves": leaves})

    def _leaves(self, entry: Entry, name: str, fields: Mapping[str, Any]) -> dict[str, int] | None:
        leaves: dict[str, int] | None = fields.get("leaves")
        if leaves is not None:
            if sum(leaves.values()) != fields["nodes"]:
                message = f"the leaves take {sum(leaves.values())} nodes, the delivery has {fields['nodes']}"
                self.wrong(entry.line_of("nodes"), f"{entry.path}.nodes", "other_count", message)
            return leaves
        if "hall" not in fields or "leaf_size" not in fields:
            message = "say which leaves it is for, or hall and leaf_size to make them"
            self.wrong(entry.line, f"{entry.path}.leaves", "no_place", message)
            return None
        try:
            made = leaves_of_size(fields.get("leaf_prefix") or name, fields["nodes"], fields["leaf_size"])
        except ValueError as error:
            self.wrong(entry.line_of("leaf_size"), f"{entry.path}.leaf_size", "too_many_leaves", str(error))
            return None
        for leaf in made:
            if leaf in self.entries[Section.LEAVES]:
                continue  # the file says more of it itself
            if not NAME.fullmatch(leaf):
                self.wrong(entry.line, entry.path, "bad_name", f"{leaf!r} would be too long for a name")
                return None
            self._add(Entry(Section.LEAVES, leaf, entry.path, entry.line, {"hall": fields["hall"]}, entry.lines))
        return made

    def _add(self, entry: Entry) -> None:
        there = self.entries[entry.section].get(entry.name)
        if there is None:
            self.entries[entry.section][entry.name] = entry
            return
        what = ONE[entry.section]
        code = "duplicate_host" if entry.section is Section.NODES else "duplicate_name"
        message = f"{what} {entry.name} is named twice, first on line {there.line}"
        self.wrong(entry.line, entry.path, code, message)


def maintenance_key(fields: Mapping[str, Any]) -> str:
    """What makes a window of maintenance itself: it has no name."""
    return f"{fields['leaf']} {fields['sku']} {rfc3339(fields['start'])}/{rfc3339(fields['end'])}"


def _code(name: str) -> str:
    return "bad_name" if name == "name" else f"bad_{name}"
