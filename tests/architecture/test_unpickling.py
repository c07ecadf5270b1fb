"""I11: what a customer made is never unpickled where the control plane runs."""

import ast

from tests.architecture.source import MODULES, Module

ON_NODES = (
    "training/supervisor/", "training/forkserver/", "training/rules/", "compute/task/", "compute/instances/host/",
    "inference/engines/vllm/", "inference/engines/llamacpp/", "tuning/trainer/",
)  # fmt: skip
"""What runs beside customers' code, as their user. Whoever adds a folder says so here."""
OURS_ALONE = frozenset({"capacity/jit.py"})
"""Knows the name of an error that a damaged cache of compiled code of ours raises."""
UNPICKLERS = frozenset({"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"})


def test_the_controller_unpickles_nothing() -> None:
    found = [
        f"{module.where}:{line} imports {name}"
        for module in MODULES
        if module.where not in OURS_ALONE and not module.where.startswith(ON_NODES)
        for name, line in module.imports()
        if name.partition(".")[0] in UNPICKLERS
    ]
    assert not found


def test_nothing_loads_what_may_be_a_pickle_by_another_name() -> None:
    """`numpy.load(allow_pickle=True)`, `torch.load`, `pandas.read_pickle`, `yaml.load` without a safe loader."""
    found = [
        f"{module.where}:{line}: {call}"
        for module in MODULES
        if not module.where.startswith(ON_NODES)
        for call, line in _calls(module)
    ]
    assert not found


def _calls(module: Module) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        allowed = any(
            word.arg == "allow_pickle" and getattr(word.value, "value", None) is True for word in node.keywords
        )
        unsafe_yaml = name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load")
        if allowed or unsafe_yaml or name.endswith((".read_pickle", "torch.load")):
            found.append((name, node.lineno))
    return found
