"""What there is, beside what a file says: what would be added, changed and removed, and what is wrong with it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from skerry.fleet.file.hosts import expand, fold
from skerry.fleet.file.model import Action, Change, Difference, Document, Entry, Mistake, Present, Section
from skerry.fleet.file.schema import ONE, REFERS, defaults, required
from skerry.fleet.model import LOCAL, Milestone, MilestoneDates, NodeStatus

DISCOVERED: Final = frozenset({"accelerator", "accelerators_per_node", "cpu", "memory", "nvlink"})
"""Of the SKU `local`: the machine itself says what these are."""
FIXED: Final[Mapping[Section, tuple[str, ...]]] = {Section.DELIVERIES: ("site", "sku")}
"""What makes a thing another one: remove it and add the other."""
_NOTHING: Final = object()


def check(document: Document, present: Present) -> list[Mistake]:
    """What is wrong with the file where it meets what there is: unknown names, new things without what they need."""
    found: list[Mistake] = []
    for section in Section:
        seen: set[str] = set()
        for entry in document.of(section).values():
            if section is Section.NODES and entry.path in seen:  # a line of many hosts is wrong once
                found += _of_local(entry, present)
                continue
            seen.add(entry.path)
            found += _unknown(entry, document, present)
            found += _incomplete(entry, present)
            found += _of_local(entry, present)
            found += _fixed(entry, present)
    found += _elsewhere(document, present)
    return sorted(found, key=lambda one: one.line)


def differences(document: Document, present: Present, *, prune: bool) -> list[Difference]:
    """In the order in which to make them: what is new or changed, then what goes, the other way round."""
    made: list[Difference] = []
    for section in Section:
        made += sorted(_made(section, document, present), key=lambda one: one.action)  # those that are alike together
    gone = list(_gone(document, present)) if prune else []
    return made + gone


def gathered(differences: Iterable[Difference]) -> list[Change]:
    """Nodes that go the same way become one change, with ranges of hostnames; the rest stays as it is."""
    alike: dict[object, list[Difference]] = {}
    for at, one in enumerate(differences):
        how = tuple((name, repr(values)) for name, values in sorted(one.fields.items()))
        key = (one.action, one.line, how) if one.section is Section.NODES else at
        alike.setdefault(key, []).append(one)
    changes: list[Change] = []
    for first, *others in alike.values():
        names = fold(one.name for one in (first, *others)) if others else [first.name]
        for name in names:
            count = len(expand(name)) if others else 1
            changes.append(Change(first.action, first.section, name, count, first.fields, first.line))
    return changes


def complete(one: Difference) -> dict[str, Any]:
    """All fields of a thing that is added, those with defaults too."""
    fields = {**defaults(one.section), **{name: after for name, (_, after) in one.fields.items()}}
    if one.section is Section.SKUS:
        fields.setdefault("sources", {})
    elif one.section is Section.DELIVERIES:
        fields = {name: value for name, value in fields.items() if name not in ("hall", "leaf_size", "leaf_prefix")}
    return fields


def moved(differences: Iterable[Difference]) -> list[str]:
    """Hosts that leave the place, or the kind, they were sold as."""
    return [
        one.name
        for one in differences
        if one.section is Section.NODES
        and (one.action is Action.REMOVE or (one.action is Action.CHANGE and {"sku", "leaf"} & set(one.fields)))
    ]


def _made(section: Section, document: Document, present: Present) -> Iterator[Difference]:
    for name, entry in document.of(section).items():
        before = present.of(section).get(name)
        if before is None:
            fields = {**defaults(section), **entry.fields}
            told = {key: (None, value) for key, value in fields.items() if value is not None and value != {}}
            yield Difference(Action.ADD, section, name, told, entry.line)
            continue
        after = _wanted(section, entry.fields, before)
        changed = {key: (before.get(key), value) for key, value in after.items() if before.get(key) != value}
        if changed:
            yield Difference(Action.CHANGE, section, name, changed, entry.line)


def _wanted(section: Section, fields: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What a thing that is there should become."""
    wanted = {key: value for key, value in fields.items() if key in before}
    if section is Section.NODES:
        # The file's word is for new nodes: afterwards the status is the operator's and the checks'.
        if before["status"] != NodeStatus.REGISTERING or "status" not in fields:
            wanted.pop("status", None)
        if wanted.get("accelerators", _NOTHING) is None:
            wanted.pop("accelerators")
    elif section is Section.DELIVERIES and "milestones" in fields:
        wanted["milestones"] = _merged(before["milestones"], fields["milestones"])
    return wanted


def _merged(
    before: Mapping[Milestone, MilestoneDates], given: Mapping[Milestone, MilestoneDates]
) -> dict[Milestone, MilestoneDates]:
    """A plan that is given does not undo what was reached."""
    merged = dict(before)
    for name, dates in given.items():
        was = before.get(name, MilestoneDates())
        merged[name] = MilestoneDates(dates.planned or was.planned, dates.reached or was.reached)
    return {name: merged[name] for name in Milestone if name in merged}


def _gone(document: Document, present: Present) -> Iterator[Difference]:
    """What the file neither names nor refers to, without what discovery made."""
    kept = {section: set(document.of(section)) | present.local.get(section, frozenset()) for section in Section}
    for section, fields in REFERS.items():
        for entry in document.of(section).values():
            for name, target in fields.items():
                kept[target].add(entry.fields.get(name) or "")
            if section is Section.DELIVERIES:
                kept[Section.LEAVES] |= set(entry.fields["leaves"])
    _keep_above(document, present, kept)
    for section in reversed(Section):
        for name, before in present.of(section).items():
            if name not in kept[section] and not before.get("history"):
                yield Difference(Action.REMOVE, section, name, {}, None)


def _keep_above(document: Document, present: Present, kept: Mapping[Section, set[str]]) -> None:
    """A leaf that stays keeps its hall, and that its site, even where the file leaves them out."""
    for section, field, above in ((Section.LEAVES, "hall", Section.HALLS), (Section.HALLS, "site", Section.SITES)):
        for name in kept[section]:
            entry, before = document.of(section).get(name), present.of(section).get(name, {})
            given = entry.fields.get(field) if entry is not None else None
            kept[above].add(given or before.get(field) or "")


# What is wrong


def _unknown(entry: Entry, document: Document, present: Present) -> Iterator[Mistake]:
    for field, target in REFERS.get(entry.section, {}).items():
        name = entry.fields.get(field)
        if name is None or name in document.of(target) or name in present.of(target):
            continue
        yield _wrong(entry, field, f"unknown_{ONE[target].lower()}", _no_such(target, name))
    if entry.section is Section.DELIVERIES:
        for leaf in entry.fields["leaves"]:
            if leaf not in document.of(Section.LEAVES) and leaf not in present.of(Section.LEAVES):
                yield _wrong(entry, "leaves", "unknown_leaf", _no_such(Section.LEAVES, leaf))


def _no_such(target: Section, name: str) -> str:
    return f"there is no {ONE[target]} {name!r}, neither in this file nor in the fleet"


def _incomplete(entry: Entry, present: Present) -> Iterator[Mistake]:
    """A new thing has to say more than one that is there."""
    if entry.name in present.of(entry.section) or entry.section in (Section.NODES, Section.DELIVERIES):
        return
    for field in required(entry.section):
        if field != "name" and field not in entry.fields:
            message = f"{field} is missing, and {ONE[entry.section]} {entry.name!r} is new"
            yield _wrong(entry, field, "missing", message)


def _of_local(entry: Entry, present: Present) -> Iterator[Mistake]:
    if entry.section is Section.NODES and entry.name in present.local.get(Section.NODES, frozenset()):
        yield _wrong(entry, "hostname", "discovered", f"{entry.name} is this machine: discovery says what it is")
    elif entry.section is Section.SKUS and entry.name == LOCAL:
        for field in DISCOVERED & set(entry.fields):
            yield _wrong(entry, field, "discovered", f"{field} of SKU local is what discovery finds on this machine")


def _fixed(entry: Entry, present: Present) -> Iterator[Mistake]:
    before = present.of(entry.section).get(entry.name)
    for field in FIXED.get(entry.section, ()):
        if before is not None and entry.fields[field] != before[field]:
            message = (
                f"{ONE[entry.section]} {entry.name} is of {field} {before[field]}: give the other a name of its own"
            )
            yield _wrong(entry, field, "cannot_change", message)


def _elsewhere(document: Document, present: Present) -> Iterator[Mistake]:
    """Deliveries into leaves of another site."""
    for entry in document.of(Section.DELIVERIES).values():
        for leaf in entry.fields["leaves"]:
            hall = _field(document, present, Section.LEAVES, leaf, "hall")
            site = _field(document, present, Section.HALLS, hall, "site") if hall is not None else None
            if site is not None and site != entry.fields["site"]:
                message = f"leaf {leaf} is at site {site}, the delivery goes to {entry.fields['site']}"
                yield _wrong(entry, "leaves", "other_site", message)


def _field(document: Document, present: Present, section: Section, name: str, field: str) -> str | None:
    entry = document.of(section).get(name)
    given = entry.fields.get(field) if entry is not None else None
    return given or present.of(section).get(name, {}).get(field)


def _wrong(entry: Entry, field: str, code: str, message: str) -> Mistake:
    return Mistake(entry.line_of(field), f"{entry.path}.{field}", code, message)
