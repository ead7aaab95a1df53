"""Quantizing the weights of ML programs (`.mlpackage`)."""

import shutil
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.lookup_table import for_programs
from pytest_quantguard.schemes.scheme import Scheme

# Specification version to the `minimum_deployment_target` that gives it.
_TARGETS = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18", 10: "iOS26"}
_IOS18 = 9
_CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"


def quantize_program(mlmodel: Any, scheme: Scheme, *, name: str) -> Any:
    """Quantize a coremltools `MLModel` of type ML program with `coremltools.optimize.coreml`.

    Tensors of at most 2048 weights and one-dimensional ones stay as they are: coremltools' defaults.

    Args:
        mlmodel: the model; neither it nor its package is changed.
        scheme: a scheme that ML programs have.
        name: what to call the model in an error.

    Returns:
        A coremltools `MLModel` in a temporary package; loaded if `mlmodel` is.

    Raises:
        SchemeError: the model has several functions, or an older deployment target than the scheme needs.
    """
    spec = mlmodel.get_spec()
    if spec.description.functions:
        raise SchemeError(
            f"{name} has several functions, which coremltools cannot quantize; quantize the models it was merged "
            "from, then merge them."
        )
    version = spec.specificationVersion
    if version < _IOS18 and scheme.bits in ((4,) if scheme.mode in ("linear", "linear_symmetric") else (3,)):
        raise SchemeError(
            f"{name} was converted for {_TARGETS.get(version, f'specification version {version}')}, and "
            f"{scheme.title} needs iOS18: convert it with minimum_deployment_target=coremltools.target.iOS18."
        )
    return _without_date_of_today(_compress(mlmodel, scheme), spec.description.metadata.userDefined)


def _compress(mlmodel: Any, scheme: Scheme) -> Any:
    import coremltools.optimize.coreml as cto
    import coremltools.optimize.coreml._quantization_passes  # noqa: F401  registers the passes; coremltools 8 forgets to

    if scheme.mode in ("linear", "linear_symmetric"):
        dtype = f"int{scheme.bits}"
        config = cto.OpLinearQuantizerConfig(mode=scheme.mode, dtype=dtype)
        return cto.linear_quantize_weights(mlmodel, cto.OptimizationConfig(global_config=config))
    if scheme.lut_function:
        config = cto.OpPalettizerConfig(mode="custom", lut_function=for_programs(scheme.lut_function, scheme.bits))
    else:
        # One k-means worker: with more, coremltools hangs once scikit-learn has run in the process.
        mode = {"kmeans_lut": "kmeans", "linear_lut": "uniform"}[scheme.mode]
        config = cto.OpPalettizerConfig(mode=mode, nbits=scheme.bits, num_kmeans_workers=1)
    return cto.palettize_weights(mlmodel, cto.OptimizationConfig(global_config=config))


def _without_date_of_today(compressed: Any, metadata: Any) -> Any:
    """The same model with the float model's conversion date, so that equal models are equal tomorrow.

    A new MLModel also lets go of the float weights, which the result of coremltools keeps in memory.
    """
    from coremltools.models import MLModel

    spec = compressed.get_spec()
    spec.description.metadata.userDefined.pop(_CONVERSION_DATE, None)
    if _CONVERSION_DATE in metadata:
        spec.description.metadata.userDefined[_CONVERSION_DATE] = metadata[_CONVERSION_DATE]
    result = MLModel(
        spec,
        weights_dir=compressed.weights_dir,
        compute_units=compressed.compute_unit,
        skip_model_load=compressed.__proxy__ is None,
    )
    shutil.rmtree(compressed.package_path, ignore_errors=True)
    return result
