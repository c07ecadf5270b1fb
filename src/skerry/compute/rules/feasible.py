"""Whether a gang could ever be placed in this fleet. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from skerry.capacity.admission.model import widths
from skerry.capacity.model import Scope
from skerry.compute.errors import InvalidWorkload
from skerry.compute.model import WorkloadSpec
from skerry.fleet.model import LeafSupply
from skerry.kernel.errors import FieldError

_SHOWN: Final = 10


def require_possible(spec: WorkloadSpec, supplies: Sequence[LeafSupply], sizes: Mapping[str, int]) -> None:
    """Counts all nodes that there ever are, planned ones and those that are away included; `sizes` are accelerators of
    a node by SKU. A fleet without nodes says nothing. Raises InvalidWorkload with the largest that could be."""
    if not supplies:
        return
    error = (
        _unknown("sku", spec.sku, [one.sku for one in supplies])
        or _unknown("site", spec.site, [one.site for one in supplies])
        or _too_large(spec, supplies, sizes)
    )
    if error is not None:
        raise InvalidWorkload(f"{error.path}: {error.message}", errors=[error])


def _unknown(field: str, wanted: str | None, there: Iterable[str]) -> FieldError | None:
    names = sorted(set(there))
    if wanted is None or wanted in names:
        return None
    shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
    words = {"sku": "no node has SKU", "site": "there is no site"}[field]
    return FieldError(field, f"unknown_{field}", f"{words} {wanted[:100]!r}; there are: {shown}")


def _too_large(spec: WorkloadSpec, supplies: Sequence[LeafSupply], sizes: Mapping[str, int]) -> FieldError | None:
    fitting = [one for one in supplies if spec.sku in (None, one.sku) and spec.site in (None, one.site)]
    if not fitting:
        return FieldError("site", "no_such_nodes", f"site {spec.site} has no nodes of SKU {spec.sku}")
    largest = max(sizes.get(one.sku, 0) for one in fitting)
    if spec.each > largest:
        words = f"no node has {spec.each} accelerators; the largest has {largest}"
        return FieldError("accelerators", "too_many_accelerators", words)
    width = widths(Scope(spec.scope), required=spec.scope_required)[-1]
    counts: dict[tuple[str, ...], int] = {}
    for one in fitting:
        if sizes.get(one.sku, 0) >= spec.each:
            key = (_place(one, width), one.sku)
            counts[key] = counts.get(key, 0) + one.size
    most = max(counts.values(), default=0)
    if spec.nodes <= most:
        return None
    where = "there are" if width is Scope.ANY else f"the largest {width} has"
    return FieldError("nodes", "too_many_nodes", f"{spec.nodes} nodes are too many: {where} {most} of one SKU")


def _place(supply: LeafSupply, width: Scope) -> str:
    return {
        Scope.LEAF: supply.leaf,
        Scope.HALL: f"{supply.site}/{supply.hall}",
        Scope.SITE: supply.site,
        Scope.ANY: "",
    }[width]
