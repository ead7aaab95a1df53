"""Tree ensembles as arrays (specification: `TreeEnsemble.proto`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.runtime.portable.feature_models.registry import FeatureModel
from pytest_quantguard.runtime.portable.feature_models.vectors import Vector

MAX_VALUES = 1 << 20
"""Values that an ensemble may compute, more than any has."""

# By behavior of a branch: whether less, equal and greater than the branch's value lead to the true child.
_OUTCOMES = {
    "BranchOnValueLessThanEqual": (True, True, False),
    "BranchOnValueLessThan": (True, False, False),
    "BranchOnValueGreaterThanEqual": (False, True, True),
    "BranchOnValueGreaterThan": (False, False, True),
    "BranchOnValueEqual": (False, True, False),
    "BranchOnValueNotEqual": (True, False, True),
}

_Integers = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Forest:
    """All nodes of all trees; up to `first_entry` each array has one row per node."""

    leaf: _Flags
    feature: _Integers
    value: Vector
    outcomes: _Flags
    """Shape (nodes, 4): the way to the true child for less, equal, greater, and for a missing value."""
    children: _Integers
    """Shape (nodes, 2): the node when the outcome is false, and when it is true."""
    first_entry: _Integers
    """Shape (nodes + 1,): where the entries of a leaf begin in `dimension` and `addend`."""
    dimension: _Integers
    addend: Vector
    roots: _Integers
    base: Vector
    single_precision: bool
    """Whether every branch value is a float32; then inputs are compared as float32.

    coremltools' XGBoost converter rounds the branch values for that: Core ML detects them, and compares as XGBoost
    does (`force_32bit_float` in `converters/xgboost/_tree_ensemble.py`).
    """

    def evaluate(self, x: Vector) -> Vector:
        """Base values plus those of the leaf that each tree leads to; shape (dimensions,)."""
        if self.single_precision:
            x = x.astype(np.float32).astype(np.float64)
        node = self.roots.copy()
        moving = np.flatnonzero(~self.leaf[node])
        while moving.size:
            at = node[moving]
            given, split = x[self.feature[at]], self.value[at]
            # 0 less, 1 equal, 2 greater, 3 missing
            relation = np.where(np.isnan(given), 3, 1 + (given > split).astype(int) - (given < split))
            node[moving] = self.children[at, self.outcomes[at, relation].astype(int)]
            moving = moving[~self.leaf[node[moving]]]
        total = self.base.copy()
        for leaf in node.tolist():
            entries = slice(self.first_entry[leaf], self.first_entry[leaf + 1])
            total[self.dimension[entries]] += self.addend[entries]
        return total

    @property
    def features(self) -> int:
        """One more than the highest feature that a branch looks at."""
        return int(self.feature[~self.leaf].max(initial=-1)) + 1


def read_forest(model: FeatureModel) -> Forest:
    """Check the trees as Core ML's own validator does, so that every walk ends at a leaf.

    Raises:
        ModelFileError: nodes are missing, doubled, in a cycle or without a single root, or an entry is outside
            the dimensions.
    """
    ensemble = model.params.treeEnsemble
    dimensions = int(ensemble.numPredictionDimensions)
    if not 1 <= dimensions <= MAX_VALUES:
        raise model.damaged(f"it computes {dimensions} values")
    base = np.array(ensemble.basePredictionValue or [0.0] * dimensions, np.float64)
    if len(base) != dimensions:
        raise model.damaged(f"{len(base)} base values do not fit {dimensions} dimensions")
    nodes = list(ensemble.nodes)
    index = {(node.treeId, node.nodeId): place for place, node in enumerate(nodes)}
    if len(index) != len(nodes):
        raise model.damaged("a node stands there twice")
    leaf = np.array([node.nodeBehavior == node.LeafNode for node in nodes], bool)
    children = _children(model, nodes, index)
    first, dimension, addend = _entries(model, nodes, dimensions)
    values = np.array([node.branchFeatureValue for node in nodes], np.float64)
    single = values.astype(np.float32)
    return Forest(
        leaf=leaf,
        feature=_features(model, nodes, leaf),
        value=values,
        outcomes=_outcomes(model, nodes),
        children=children,
        first_entry=first,
        dimension=dimension,
        addend=addend,
        roots=_roots(model, nodes, leaf, children),
        base=base,
        single_precision=bool(np.array_equal(single.astype(np.float64), values)),
    )


def _children(model: FeatureModel, nodes: list[Any], index: dict[tuple[int, int], int]) -> _Integers:
    children = np.zeros((len(nodes), 2), np.int64)
    for place, node in enumerate(nodes):
        if node.nodeBehavior == node.LeafNode:
            continue
        for way, child in enumerate((node.falseChildNodeId, node.trueChildNodeId)):
            found = index.get((node.treeId, child))
            if found is None:
                raise model.damaged(
                    f"tree {node.treeId}: node {node.nodeId} has a child {child} that is not there"
                )
            children[place, way] = found
    return children


def _features(model: FeatureModel, nodes: list[Any], leaf: _Flags) -> _Integers:
    indices = [0 if end else node.branchFeatureIndex for node, end in zip(nodes, leaf.tolist(), strict=True)]
    if max(indices, default=0) >= 1 << 31:
        raise model.damaged(f"a branch looks at feature {max(indices)}")
    return np.array(indices, np.int64)


def _outcomes(model: FeatureModel, nodes: list[Any]) -> _Flags:
    behaviors = type(model.params.treeEnsemble).TreeNode.TreeNodeBehavior
    by_number = {number: _OUTCOMES.get(name, (False, False, False)) for name, number in behaviors.items()}
    outcomes = np.zeros((len(nodes), 4), bool)
    for place, node in enumerate(nodes):
        if node.nodeBehavior not in by_number:
            raise model.damaged(f"tree {node.treeId}: node {node.nodeId} has the unknown mode {node.nodeBehavior}")
        outcomes[place] = (*by_number[node.nodeBehavior], node.missingValueTracksTrueChild)
    return outcomes


def _entries(model: FeatureModel, nodes: list[Any], dimensions: int) -> tuple[_Integers, _Integers, Vector]:
    counts, dimension, addend = [0], [], []
    for node in nodes:
        entries = list(node.evaluationInfo) if node.nodeBehavior == node.LeafNode else []
        own = [entry.evaluationIndex for entry in entries]
        if node.nodeBehavior == node.LeafNode and (not own or len(set(own)) != len(own)):
            raise model.damaged(f"tree {node.treeId}: leaf {node.nodeId} has no values, or two for one dimension")
        if max(own, default=0) >= dimensions:
            raise model.damaged(f"tree {node.treeId}: leaf {node.nodeId} has a value for dimension {max(own)}")
        counts.append(len(own))
        dimension += own
        addend += [entry.evaluationValue for entry in entries]
    return np.cumsum(counts), np.array(dimension, np.int64), np.array(addend, np.float64)


def _roots(model: FeatureModel, nodes: list[Any], leaf: _Flags, children: _Integers) -> _Integers:
    """The nodes without a parent: one per tree, from which every node is reached on one way only."""
    parents = np.bincount(children[~leaf].reshape(-1), minlength=len(nodes))
    if (parents > 1).any():
        node = nodes[int(np.argmax(parents > 1))]
        raise model.damaged(f"tree {node.treeId}: node {node.nodeId} is the child of several nodes")
    roots = np.flatnonzero(parents == 0)
    trees = [nodes[root].treeId for root in roots.tolist()]
    if len(set(trees)) != len(trees) or len(trees) != len({node.treeId for node in nodes}):
        raise model.damaged("a tree has several roots, or none")
    reached, level = 0, roots
    while level.size:
        reached += level.size
        level = children[level[~leaf[level]]].reshape(-1)
    if reached != len(nodes):
        raise model.damaged(f"{len(nodes) - reached} nodes of its trees form a cycle")
    return roots
