"""What a model is built of: layers, operations, trees; pipelines stage by stage."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pytest_quantguard.runtime.portable.neural_network.steps import all_layers
from pytest_quantguard.schemes.kinds import NETWORKS, PIPELINES, PROGRAM, stages
from pytest_quantguard.schemes.program_tensors import all_operations


def leaf_models(spec: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The models of a pipeline, in order and through nested pipelines; a model that is none by itself.

    Yields:
        The names of the stages that lead to a model, each with its number (`0:classifier`), and its message.
    """
    if spec.WhichOneof("Type") not in PIPELINES:
        yield path, spec
        return
    for index, (name, model) in enumerate(stages(spec)):
        yield from leaf_models(model, (*path, f"{index}:{name}" if name != str(index) else name))


def structure_entry(spec: Any) -> dict[str, Any]:
    """A model that is no pipeline as JSON values.

    Returns:
        `kind`, `unit` (what is counted), `total`, and `counts` by type, the most frequent first; those inside of
        branches and loops are counted, too, and `nested` says how many they are.
    """
    kind = spec.WhichOneof("Type")
    if kind in NETWORKS:
        network = getattr(spec, kind)
        counts = Counter(layer.WhichOneof("layer") or "unknown" for layer in all_layers(network))
        return _entry(kind, "layers", counts, counts.total() - len(network.layers))
    if kind == PROGRAM:
        program = spec.mlProgram
        counts = Counter(operation.type for operation in all_operations(program))
        blocks = [function.block_specializations.get(function.opset) for function in program.functions.values()]
        outer = sum(len(block.operations) for block in blocks if block)
        return _entry(kind, "operations", counts, counts.total() - outer)
    return _entry(kind, "parts", _parts(spec, kind), 0)


def _entry(kind: str, unit: str, counts: Counter[str], nested: int) -> dict[str, Any]:
    # Constants last: they are the most frequent operations, and tell the least.
    order = sorted(counts.items(), key=lambda entry: (entry[0] == "const", -entry[1], entry[0]))
    return {"kind": kind, "unit": unit, "total": counts.total(), "nested": nested, "counts": dict(order)}


def _parts(spec: Any, kind: str) -> Counter[str]:
    """What other models are made of, as far as their size tells something."""
    model = getattr(spec, kind)
    if kind.startswith("treeEnsemble"):
        nodes = model.treeEnsemble.nodes
        return Counter({"nodes": len(nodes), "trees": len({node.treeId for node in nodes})})
    if kind.startswith("supportVector"):
        vectors = model.WhichOneof("supportVectors")
        return Counter({"support vectors": len(getattr(model, vectors).vectors) if vectors else 0})
    if kind.startswith("glm"):
        return Counter({"weights": sum(len(row.value) for row in model.weights)})
    return Counter()
