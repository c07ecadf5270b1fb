"""Whether llama.cpp would keep to a JSON schema.

It leaves schemas to llguidance, and where that cannot use one the request is answered as if no schema had been given.
So nothing is sent but what is known to work; everything else is refused by name. What an unsatisfiable schema is, is
checked too, for the same reason. tests/inference/test_structured_outputs.py tries both sides on the engine itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from skerry.inference.gateway.regex_grammar import Unsupported, grammar_of

MAX_DEPTH: Final = 32
"""Levels of a schema: deeper ones make the engine's reader overflow."""
MAX_NODES: Final = 2_000
MAX_REFERENCES: Final = 64
"""Different places that `$ref` may lead to."""
MAX_COUNT: Final = 10_000
"""Largest length or number of items."""

Schema = Mapping[str, Any]

TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
    # On numbers they say how wide the reader's variable is, and bind nobody.
    | {"int32", "int64", "float", "double"}
)
_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator"}
    | {"$schema", "$id", "$anchor", "$comment", "contentEncoding", "contentMediaType"}
)
"""They bind nobody."""
_COUNTS: Final = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties"))
_LIMITS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_MAPS: Final = ("properties", "$defs", "definitions")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_KEYWORDS: Final = frozenset(
    {"type", "enum", "const", "$ref", "required", "additionalProperties", "items"}
    | {"multipleOf", "pattern", "format", *_LISTS, *_MAPS, *_LIMITS, *(name for pair in _COUNTS for name in pair)}
)
_INSTEAD: Final = {
    "nullable": "add 'null' to 'type'",
    "not": "say what is allowed instead",
    "oneOf": "use 'anyOf'",
    "allOf": "write the parts as one",
}


class Unusable(ValueError):
    """The message says which keyword, where, and what to do."""


def check(schema: Schema) -> None:
    """Raises Unusable."""
    places: dict[str, Schema] = {}
    for nodes, (node, path, depth) in enumerate(_walk(schema), 1):
        if depth > MAX_DEPTH:
            raise Unusable(f"it is nested more than {MAX_DEPTH} deep")
        if nodes > MAX_NODES:
            raise Unusable(f"it has more than {MAX_NODES} parts")
        _check_node(node, path)
        if "$ref" in node:
            places[node["$ref"]] = _resolve(schema, node["$ref"], path)
    if len(places) > MAX_REFERENCES:
        raise Unusable(f"it refers to more than {MAX_REFERENCES} places")
    if not _has_an_end(schema, places):
        raise Unusable("no finite value fits it: it refers to itself without a way out")


def _walk(schema: Schema) -> Iterator[tuple[Schema, str, int]]:
    """Every subschema that is an object, with its path and depth. What holds others has the right form by then."""
    left: list[tuple[Any, str, int]] = [(schema, "", 1)]
    while left:
        node, path, depth = left.pop()
        if node is True:
            continue
        if not isinstance(node, dict):
            raise Unusable(f"{_at(path)} is no schema")
        left.extend((child, f"{path}.{name}", depth + 1) for name, child in _children(node, path))
        yield node, path, depth


def _children(node: Schema, path: str) -> Iterator[tuple[str, Any]]:
    for name in _MAPS:
        part = node.get(name, {})
        if not isinstance(part, dict):
            raise Unusable(f"'{name}' at {_at(path)} is no object")
        yield from ((f"{name}.{key}", child) for key, child in part.items())
    for name in _LISTS:
        part = node.get(name, [])
        if not isinstance(part, list) or (name in node and not part):
            raise Unusable(f"'{name}' at {_at(path)} is no list of schemas")
        yield from ((f"{name}.{index}", child) for index, child in enumerate(part))
    if "items" in node:
        yield "items", node["items"]
    if node.get("additionalProperties", False) is not False:
        yield "additionalProperties", node["additionalProperties"]


def _check_node(node: Schema, path: str) -> None:
    for name in node:
        if name not in _KEYWORDS and name not in _NOTES and not name.startswith("x-"):
            raise _unsupported(name, path)
    if "$ref" in node and node.keys() - _NOTES - {"$ref", "$defs", "definitions"}:
        raise Unusable(f"'$ref' at {_at(path)} stands beside other keywords; put them where it leads")
    if len(node.get("allOf", ())) > 1:
        raise _unsupported("allOf", path)
    if not _disjoint(node.get("oneOf", ())):
        raise _unsupported("oneOf", path)
    types = _types(node, path)
    _check_values(node, types, path)
    _check_numbers(node, path)
    _check_text(node, path)
    _check_required(node, path)


def _types(node: Schema, path: str) -> frozenset[str]:
    """What `type` allows; all where it is not there."""
    given = node.get("type", sorted(TYPES))
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not listed or not all(name in TYPES for name in listed if isinstance(name, str)):
        raise Unusable(f"'type' at {_at(path)} is none of JSON's")
    if not all(isinstance(name, str) for name in listed):
        raise Unusable(f"'type' at {_at(path)} is none of JSON's")
    return frozenset(listed)


def _check_values(node: Schema, types: frozenset[str], path: str) -> None:
    values = node.get("enum", [node["const"]] if "const" in node else None)
    if values is None:
        return
    if not isinstance(values, list) or not any(_type_of(value) & types for value in values):
        raise Unusable(f"no value listed at {_at(path)} has its type")
    if "enum" in node and "const" in node:
        raise Unusable(f"'enum' at {_at(path)} stands beside 'const'")


def _check_numbers(node: Schema, path: str) -> None:
    for low, high in _COUNTS:
        for name in (low, high):
            value = node.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise Unusable(f"'{name}' at {_at(path)} is no count")
            if value > MAX_COUNT:
                raise Unusable(f"'{name}' at {_at(path)} is above {MAX_COUNT}")
        if high in node and node.get(low, 0) > node[high]:
            raise Unusable(f"'{low}' at {_at(path)} is above '{high}'")
    for name in (*_LIMITS, "multipleOf"):
        value = node.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15:
            raise Unusable(f"'{name}' at {_at(path)} is no number of up to 15 digits")
    if node.get("multipleOf", 1) <= 0:
        raise Unusable(f"'multipleOf' at {_at(path)} is not above 0")
    _check_limits(node, path)


def _check_limits(node: Schema, path: str) -> None:
    """There must surely be a number between them."""
    step = node.get("multipleOf", 1 if node.get("type") == "integer" else 0)
    strict = "exclusiveMinimum" in node or "exclusiveMaximum" in node
    low = max((node[name] for name in ("minimum", "exclusiveMinimum") if name in node), default=float("-inf"))
    high = min((node[name] for name in ("maximum", "exclusiveMaximum") if name in node), default=float("inf"))
    whole = step == 1 and low == int(low) if step and abs(low) != float("inf") else not step
    room = high - low
    if room < 0 or (strict and room == 0) or (step and room < (2 * step if strict else 0 if whole else step)):
        raise Unusable(f"there may be no number between the limits at {_at(path)}")


def _check_text(node: Schema, path: str) -> None:
    form = node.get("format", "date")
    if form not in FORMATS:
        raise Unusable(f"the format {str(form)[:40]!r} at {_at(path)} is not known")
    if "format" in node and node.keys() & {"pattern", "minLength", "maxLength"}:
        raise Unusable(f"'format' at {_at(path)} stands beside a pattern or a length")
    pattern = node.get("pattern")
    if pattern is None:
        return
    if not isinstance(pattern, str):
        raise Unusable(f"'pattern' at {_at(path)} is no text")
    if node.keys() & {"minLength", "maxLength"}:
        raise Unusable(f"'pattern' at {_at(path)} stands beside a length; say it in the pattern")
    try:
        grammar_of(pattern)
    except Unsupported as error:
        raise Unusable(f"the pattern at {_at(path)} cannot be used: {error}") from None


def _check_required(node: Schema, path: str) -> None:
    required = node.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise Unusable(f"'required' at {_at(path)} is no list of names")
    if node.get("additionalProperties", True) is not False:
        return
    properties = node.get("properties", {})
    for name in required:
        if name not in properties:
            raise Unusable(f"'required' at {_at(path)} names {name[:40]!r}, which its properties do not have")


def _disjoint(branches: Sequence[Any]) -> bool:
    """Whether at most one branch fits any value, as far as can be seen: by type, or by a property that tells them."""
    if len(branches) < 2:
        return True
    if not all(isinstance(branch, dict) for branch in branches):
        return False
    types = ["number" if branch.get("type") == "integer" else branch.get("type") for branch in branches]
    if all(isinstance(name, str) for name in types) and len(set(types)) == len(types):
        return True
    marks = [_marks(branch) for branch in branches]
    shared = set.intersection(*(set(mark) for mark in marks))
    return any(len({mark[name] for mark in marks}) == len(marks) for name in shared)


def _marks(branch: Schema) -> dict[str, str]:
    """Required properties with one value each."""
    properties, required = branch.get("properties", {}), branch.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return {}
    return {
        name: repr(part["const"])
        for name, part in properties.items()
        if isinstance(part, dict) and "const" in part and name in required
    }


def _resolve(root: Schema, pointer: Any, path: str) -> Schema:
    if not isinstance(pointer, str) or not pointer.startswith("#"):
        raise Unusable(f"'$ref' at {_at(path)} leads outside; only references within the schema are followed")
    node: Any = root
    for part in pointer[1:].split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or (pointer != "#" and not pointer.startswith("#/")):
        raise Unusable(f"'$ref' at {_at(path)} leads nowhere")
    return node


def _has_an_end(root: Schema, places: Mapping[str, Schema]) -> bool:
    """Whether some finite value fits, by growing the set of references that surely lead to one."""
    ending: set[str] = set()
    while True:
        fresh = {name for name, node in places.items() if name not in ending and _ends(node, ending.__contains__)}
        if not fresh:
            return len(ending) == len(places) and _ends(root, ending.__contains__)
        ending |= fresh


def _ends(node: Any, known: Callable[[str], bool]) -> bool:
    if not isinstance(node, dict):
        return True
    if "$ref" in node:
        return known(node["$ref"])
    for name in ("anyOf", "oneOf"):
        if name in node and not any(_ends(branch, known) for branch in node[name]):
            return False
    needed = [*node.get("allOf", ())]
    properties = node.get("properties", {})
    needed += [properties[name] for name in node.get("required", ()) if name in properties]
    prefix = node.get("prefixItems", [])
    needed += prefix[: node.get("minItems", 0)]
    if node.get("minItems", 0) > len(prefix):
        needed.append(node.get("items"))
    return all(_ends(part, known) for part in needed)


def _type_of(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, int):
        return frozenset({"integer", "number"})
    names = {float: "number", str: "string", list: "array", dict: "object"}
    return frozenset({names[type(value)]})


def _unsupported(name: str, path: str) -> Unusable:
    advice = _INSTEAD.get(name)
    return Unusable(f"'{name[:40]}' at {_at(path)} is not supported{f'; {advice}' if advice else ''}")


def _at(path: str) -> str:
    return f"'{path[1:][:100]}'" if path else "its top"
