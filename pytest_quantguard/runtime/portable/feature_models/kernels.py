"""Support vectors and their kernels (specification: `SVM.proto`)."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from pytest_quantguard.runtime.portable.feature_models.registry import FeatureModel
from pytest_quantguard.runtime.portable.feature_models.vectors import InputVector, Vector


class SupportVectors(Protocol):
    """The support vectors of a model."""

    count: int
    width: int
    """Features that they have."""

    def products(self, x: Vector) -> Vector:
        """The dot product of each support vector with x; shape (count,)."""

    def squared_distances(self, x: Vector) -> Vector:
        """The squared distance of each support vector to x; shape (count,)."""


class DenseVectors:
    """Support vectors as a matrix; x may have further features, which count as zero in the vectors."""

    def __init__(self, model: FeatureModel, vectors: Any) -> None:
        lengths = {len(vector.values) for vector in vectors}
        if len(lengths) > 1:
            raise model.damaged("its support vectors have different lengths")
        self.count, self.width = len(vectors), max(lengths, default=0)
        self._matrix = np.array([vector.values for vector in vectors], np.float64).reshape(self.count, self.width)

    def products(self, x: Vector) -> Vector:
        products: Vector = self._matrix @ x[: self.width]
        return products

    def squared_distances(self, x: Vector) -> Vector:
        rest = x[self.width :]
        distances: Vector = ((self._matrix - x[: self.width]) ** 2).sum(axis=1) + rest @ rest
        return distances


class SparseVectors:
    """Support vectors that store what is not zero; indices count from 1, as in libsvm."""

    def __init__(self, model: FeatureModel, vectors: Any) -> None:
        nodes = [(row, node.index - 1, node.value) for row, vector in enumerate(vectors) for node in vector.nodes]
        if any(column < 0 for _, column, _ in nodes):
            raise model.damaged("a support vector has an index below 1")
        if len({(row, column) for row, column, _ in nodes}) != len(nodes):
            raise model.damaged("a support vector has an index twice")
        self.count = len(vectors)
        self._row = np.array([row for row, _, _ in nodes], np.int64)
        self._column = np.array([column for _, column, _ in nodes], np.int64)
        self._value = np.array([value for _, _, value in nodes], np.float64)
        self.width = int(self._column.max(initial=-1)) + 1

    def products(self, x: Vector) -> Vector:
        return self._sum(self._value * x[self._column])

    def squared_distances(self, x: Vector) -> Vector:
        stored = x[self._column]
        return np.maximum(self._sum((self._value - stored) ** 2 - stored**2) + x @ x, 0.0)

    def _sum(self, values: Vector) -> Vector:
        return np.bincount(self._row, values, minlength=self.count).astype(np.float64)


def make_kernel(model: FeatureModel, inputs: InputVector) -> tuple[int, Callable[[Mapping[str, Any]], Vector]]:
    """The number of support vectors, and the kernel between each of them and a sample, shape (count,).

    Raises:
        ModelFileError: there are no support vectors or no kernel, or they contradict the inputs.
    """
    kind = model.params.WhichOneof("supportVectors")
    if kind is None:
        raise model.damaged("it has no support vectors")
    stored = getattr(model.params, kind).vectors
    vectors: SupportVectors = (DenseVectors if kind == "denseSupportVectors" else SparseVectors)(model, stored)
    if inputs.size is not None and vectors.width > inputs.size:
        raise model.damaged(f"a support vector has feature {vectors.width} of {inputs.size}")
    function = _kernel(model)

    def kernel(values: Mapping[str, Any]) -> Vector:
        x = inputs.read(values)
        if x.size < vectors.width:
            raise model.failed(f"a support vector has feature {vectors.width} of {x.size}")
        return function(vectors, x)

    return vectors.count, kernel


def _kernel(model: FeatureModel) -> Callable[[SupportVectors, Vector], Vector]:
    kind = model.params.kernel.WhichOneof("kernel")
    if kind is None:
        raise model.damaged("it has no kernel")
    kernel = getattr(model.params.kernel, kind)
    if kind != "linearKernel" and not kernel.gamma >= 0:
        raise model.damaged(f"the gamma of its kernel is {kernel.gamma}")
    if kind == "linearKernel":
        return lambda vectors, x: vectors.products(x)
    gamma = kernel.gamma
    if kind == "rbfKernel":
        return lambda vectors, x: np.exp(-gamma * vectors.squared_distances(x))
    shift = kernel.c
    if kind == "sigmoidKernel":
        return lambda vectors, x: np.tanh(gamma * vectors.products(x) + shift)
    degree = kernel.degree
    if degree < 0:
        raise model.damaged(f"the degree of its kernel is {degree}")
    return lambda vectors, x: np.power(gamma * vectors.products(x) + shift, degree)
