"""SKUs ready to be used: shapes and power of common nodes, with where each figure is from.

A fleet file that lists such a SKU by its name alone gets these figures; whatever it gives itself comes first. Power is
that of the whole node. `tdp_w` is a bound to plan a room by, no measurement. What begins with `assumed` was found in no
published figure and should be replaced by what the site's own counters show. Data as code: it is typed, and it is there
in processes that may no longer read the folders of the installation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

GB: Final = 10**9
GIB: Final = 2**30
TIB: Final = 2**40

ASSUMED_IDLE: Final = "assumed: about a fifth of the full load; no published figure was found"
MLPERF: Final = "MLPerf Inference system description, mlcommons/"


@dataclass(frozen=True, slots=True)
class CatalogueSku:
    """A SKU to start from. `accelerator_memory` and `memory` in bytes, `tdp_w` and `idle_w` in watts a node."""

    name: str
    title: str
    accelerator: str
    accelerators_per_node: int
    accelerator_memory: int | None
    cpu: int
    memory: int
    nvlink: bool
    tdp_w: int
    idle_w: int
    leaf_size: int
    """Nodes that stand together by their nature: a rack of one NVLink domain, or what one leaf switch takes."""
    sources: Mapping[str, str]


CATALOGUE: Final = (
    CatalogueSku(
        name="h100-sxm.8x",
        title="8 × NVIDIA H100 SXM 80 GB, NVSwitch (DGX H100 class)",
        accelerator="H100-SXM",
        accelerators_per_node=8,
        accelerator_memory=80 * GB,
        cpu=112,
        memory=2 * TIB,
        nvlink=True,
        tdp_w=10_200,
        idle_w=2_000,
        leaf_size=32,
        sources={
            "accelerator_memory": "NVIDIA DGX H100 datasheet: 640 GB in all",
            "cpu": "NVIDIA DGX H100 datasheet: two Xeon 8480C, 112 cores",
            "memory": "NVIDIA DGX H100 datasheet: 2 TB",
            "tdp_w": "NVIDIA DGX H100 datasheet: 10.2 kW at most",
            "idle_w": ASSUMED_IDLE,
        },
    ),
    CatalogueSku(
        name="h200-sxm.8x",
        title="8 × NVIDIA H200 SXM 141 GB, NVSwitch (DGX H200 class)",
        accelerator="H200-SXM",
        accelerators_per_node=8,
        accelerator_memory=141 * GB,
        cpu=112,
        memory=2 * TIB,
        nvlink=True,
        tdp_w=10_200,
        idle_w=2_000,
        leaf_size=32,
        sources={
            "accelerator_memory": MLPERF + "inference_results_v4.1 H200-SXM-141GBx8: 141 GB",
            "cpu": MLPERF + "inference_results_v4.1 H200-SXM-141GBx8: two Xeon 8480C of 56 cores",
            "memory": MLPERF + "inference_results_v4.1 H200-SXM-141GBx8: 2 TB",
            "tdp_w": "NVIDIA DGX H200 datasheet: 10.2 kW at most",
            "idle_w": "assumed: one vendor measured 80.3 W at rest a GPU, doubled for it and its share of the node, "
            "and 700 W for what runs besides",
        },
    ),
    CatalogueSku(
        name="b200-sxm.8x",
        title="8 × NVIDIA B200 SXM 180 GB, NVSwitch (DGX B200 class)",
        accelerator="B200-SXM",
        accelerators_per_node=8,
        accelerator_memory=180 * GB,
        cpu=112,
        memory=2 * TIB,
        nvlink=True,
        tdp_w=14_300,
        idle_w=2_900,
        leaf_size=32,
        sources={
            "accelerator_memory": "NVIDIA DGX B200 datasheet: 1,440 GB in all",
            "cpu": "NVIDIA DGX B200 datasheet: two Xeon 8570, 112 cores",
            "memory": "NVIDIA DGX B200 datasheet: 2 TB, up to 4 TB",
            "tdp_w": "NVIDIA DGX B200 datasheet: about 14.3 kW at most",
            "idle_w": ASSUMED_IDLE,
        },
    ),
    CatalogueSku(
        name="gb200-nvl72.4x",
        title="GB200 NVL72 compute tray: 4 × B200 with 2 × Grace; 18 trays are one NVLink domain, so one leaf",
        accelerator="GB200",
        accelerators_per_node=4,
        accelerator_memory=186 * GB,
        cpu=144,
        memory=960 * GB,
        nvlink=True,
        tdp_w=6_700,
        idle_w=1_300,
        leaf_size=18,
        sources={
            "accelerator_memory": MLPERF + "inference_results_v6.1 GB200-NVL72: 186 GB",
            "cpu": MLPERF + "inference_results_v6.1 GB200-NVL72: 144 cores for four GPUs",
            "memory": "NVIDIA GB200 NVL72 datasheet: 17 TB LPDDR5X a rack, over 18 trays",
            "tdp_w": "assumed: a rack is said to draw about 120 kW; an eighteenth, NVLink switches shared out",
            "idle_w": ASSUMED_IDLE,
        },
    ),
    CatalogueSku(
        name="mi300x.8x",
        title="8 × AMD Instinct MI300X 192 GB, Infinity Fabric",
        accelerator="MI300X",
        accelerators_per_node=8,
        accelerator_memory=192 * GB,
        cpu=128,
        memory=2_304 * GIB,
        nvlink=False,
        tdp_w=10_000,
        idle_w=2_500,
        leaf_size=32,
        sources={
            "accelerator_memory": "AMD Instinct MI300X datasheet: 192 GB HBM3",
            "cpu": "assumed: two processors of 64 cores",
            "memory": "assumed: 24 modules of 96 GB",
            "tdp_w": "assumed: eight modules of 750 W (AMD Instinct MI300X datasheet) and 4 kW for the rest",
            "idle_w": "assumed: about a quarter of the full load; no published figure was found",
        },
    ),
    CatalogueSku(
        name="gaudi3.8x",
        title="8 × Intel Gaudi 3 128 GB (OAM), integrated RoCE",
        accelerator="Gaudi-3",
        accelerators_per_node=8,
        accelerator_memory=128 * GB,
        cpu=128,
        memory=2 * TIB,
        nvlink=False,
        tdp_w=11_200,
        idle_w=2_800,
        leaf_size=32,
        sources={
            "accelerator_memory": "Intel Gaudi 3 white paper: 128 GB HBM2e",
            "cpu": "assumed: two processors of 64 cores",
            "memory": "assumed: 32 modules of 64 GB",
            "tdp_w": "assumed: eight modules of 900 W (Intel Gaudi 3 white paper) and 4 kW for the rest",
            "idle_w": "assumed: about a quarter of the full load; no published figure was found",
        },
    ),
    CatalogueSku(
        name="l40s.8x",
        title="8 × NVIDIA L40S 48 GB, PCIe",
        accelerator="L40S",
        accelerators_per_node=8,
        accelerator_memory=48 * GB,
        cpu=96,
        memory=1 * TIB,
        nvlink=False,
        tdp_w=4_600,
        idle_w=1_000,
        leaf_size=32,
        sources={
            "accelerator_memory": "NVIDIA L40S datasheet: 48 GB GDDR6",
            "cpu": "assumed: two processors of 48 cores",
            "memory": "assumed: 16 modules of 64 GB",
            "tdp_w": "assumed: eight cards of 350 W (NVIDIA L40S datasheet) and 1.8 kW for the rest",
            "idle_w": ASSUMED_IDLE,
        },
    ),
    CatalogueSku(
        name="cpu.192c",
        title="Two processors of 96 cores, no accelerators: each core counts as one of type cpu",
        accelerator="cpu",
        accelerators_per_node=192,
        accelerator_memory=None,
        cpu=192,
        memory=768 * GIB,
        nvlink=False,
        tdp_w=1_100,
        idle_w=250,
        leaf_size=40,
        sources={
            "cpu": "AMD EPYC 9654 datasheet: 96 cores",
            "memory": "assumed: 24 modules of 32 GB",
            "tdp_w": "assumed: two processors of 360 W (AMD EPYC 9654 datasheet) and 380 W for the rest",
            "idle_w": "assumed: no published figure was found",
        },
    ),
)

_BY_NAME: Final = {sku.name: sku for sku in CATALOGUE}
_NO_FIELDS: Final = ("name", "title", "leaf_size")


def find(name: str) -> CatalogueSku | None:
    return _BY_NAME.get(name)


def fields_of(sku: CatalogueSku) -> dict[str, Any]:
    """What a SKU of the fleet takes over from it."""
    return {field.name: getattr(sku, field.name) for field in fields(sku) if field.name not in _NO_FIELDS}
