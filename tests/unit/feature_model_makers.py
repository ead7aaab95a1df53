"""Specifications of models that are no networks, made by hand for tests."""

from pytest_quantguard.quiet import import_coremltools
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine


def new_spec(kind, inputs, outputs, *, predicted="", probabilities="", version=4):
    """A `Model` message of a type, without parameters.

    Args:
        kind: the model type, by its name in the specification.
        inputs: from names to types: `int64`, `double`, `string`, `dictionary:string`, `sequence:int64`, an array's
            (shape, type), an image's (width, height, colour); a `?` behind a type makes it optional.
        outputs: the same for the outputs.
        predicted: `predictedFeatureName`.
        probabilities: `predictedProbabilitiesName`.
        version: `specificationVersion`.
    """
    import_coremltools()
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model(specificationVersion=version)
    for features, described in ((inputs, spec.description.input), (outputs, spec.description.output)):
        for name, kind_of in features.items():
            _describe(described.add(name=name).type, kind_of)
    spec.description.predictedFeatureName = predicted
    spec.description.predictedProbabilitiesName = probabilities
    getattr(spec, kind).SetInParent()
    return spec


def run(spec, name="model.mlmodel", **inputs):
    """What `predict` gives for a specification."""
    return FeatureModelEngine(spec, None, name=name).predict(inputs)


def make_pipeline(stages, inputs, outputs, *, kind="pipeline", **names):
    """A pipeline of specifications; the arguments are those of `new_spec`."""
    spec = new_spec(kind, inputs, outputs, **names)
    pipeline = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
    pipeline.models.extend(stages)
    return spec


def set_labels(params, labels):
    """Give a classifier its labels."""
    if isinstance(labels[0], str):
        params.stringClassLabels.vector.extend(labels)
    else:
        params.int64ClassLabels.vector.extend(int(label) for label in labels)


def classifier_spec(kind, inputs, labels, *, probabilities="probabilities"):
    """A classifier with the outputs `label` and `probabilities`, without parameters."""
    entries = "string" if isinstance(labels[0], str) else "int64"
    outputs = {"label": entries}
    if probabilities:
        outputs[probabilities] = f"dictionary:{entries}"
    spec = new_spec(kind, inputs, outputs, predicted="label", probabilities=probabilities)
    set_labels(getattr(spec, kind), labels)
    return spec


def add_tree(ensemble, tree, tree_id, first_node=0):
    """Add a tree: a leaf is a number or a dictionary from dimension to value, a branch is a dictionary.

    A branch has the keys feature, value, yes, no, and may have mode and missing.
    """
    ids = iter(range(first_node, first_node + 1000))

    def add(node):
        own = next(ids)
        entry = ensemble.nodes.add(treeId=tree_id, nodeId=own)
        if isinstance(node, dict) and "feature" in node:
            entry.nodeBehavior = entry.TreeNodeBehavior.Value(node.get("mode", "BranchOnValueLessThanEqual"))
            entry.branchFeatureIndex, entry.branchFeatureValue = node["feature"], node["value"]
            entry.missingValueTracksTrueChild = node.get("missing", False)
            entry.trueChildNodeId, entry.falseChildNodeId = add(node["yes"]), add(node["no"])
            return own
        entry.nodeBehavior = entry.LeafNode
        for dimension, value in (node if isinstance(node, dict) else {0: node}).items():
            entry.evaluationInfo.add(evaluationIndex=dimension, evaluationValue=value)
        return own

    add(tree)


def _describe(described, kind):
    if isinstance(kind, tuple) and isinstance(kind[0], tuple):
        shape, data_type = kind
        data_type, optional = data_type.removesuffix("?"), data_type.endswith("?")
        described.multiArrayType.shape.extend(shape)
        described.multiArrayType.dataType = described.multiArrayType.ArrayDataType.Value(data_type)
        described.isOptional = optional
        return
    if isinstance(kind, tuple):
        described.imageType.width, described.imageType.height = kind[:2]
        described.imageType.colorSpace = described.imageType.ColorSpace.Value(kind[2])
        return
    described.isOptional = kind.endswith("?")
    name, _, entries = kind.removesuffix("?").partition(":")
    if name == "dictionary":
        getattr(described.dictionaryType, f"{entries}KeyType").SetInParent()
    elif name == "sequence":
        getattr(described.sequenceType, f"{entries}Type").SetInParent()
    else:
        getattr(described, f"{name}Type").SetInParent()
