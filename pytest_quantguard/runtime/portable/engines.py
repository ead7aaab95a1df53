"""Which portable engine runs a model."""

from pathlib import Path
from typing import Any

from pytest_quantguard.models.files import SpecSource
from pytest_quantguard.runtime.engine import Engine
from pytest_quantguard.runtime.portable.engine import ML_PROGRAM, NEURAL_NETWORKS, PortableEngine


def portable_engine(spec: Any, weights_dir: Path | None, *, name: str, precision: str = "float32") -> Engine:
    """The engine for a model of any type: onnxruntime for a network, stages and numpy for the others.

    Args:
        spec: the parsed `Model` message, of one function, or a `SpecSource` of it.
        weights_dir: the folder of the weight files of ML programs; None where there is none.
        name: what to call the model in errors.
        precision: one of `runtime.PRECISIONS`.

    Raises:
        UnsupportedModelError: the model, or something in it, is not supported; it is named.
        ModelFileError: the model is damaged.
    """
    kind = spec.description.kind if isinstance(spec, SpecSource) else spec.WhichOneof("Type")
    if kind in (*NEURAL_NETWORKS, ML_PROGRAM):
        return PortableEngine(spec, weights_dir, name=name, precision=precision)
    from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

    spec = spec.take() if isinstance(spec, SpecSource) else spec
    return FeatureModelEngine(spec, weights_dir, name=name, precision=precision)
