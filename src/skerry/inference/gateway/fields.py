"""Are some fields of a request set? Asked of every request, so with one call into C for all of its fields."""

from typing import Any

from msgspec.structs import astuple


class FieldsUnset:
    """Whether none of some fields is set. A request that lacks one of them has it unset."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = tuple(sorted(names))
        self._places: dict[type, list[int]] = {}
        """By kind of request: where the fields are."""

    def __call__(self, request: Any) -> bool:
        values: tuple[Any, ...] = astuple(request)
        places = self._places.get(type(request))
        if places is None:
            places = self._find(type(request))
        return all(values[place] is None for place in places)

    def set_ones(self, request: Any) -> list[str]:
        return [name for name in self.names if getattr(request, name) is not None]

    def _find(self, kind: type) -> list[int]:
        fields: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]
        places = self._places[kind] = [place for place, name in enumerate(fields) if name in self.names]
        return places
