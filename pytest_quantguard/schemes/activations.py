"""Quantizing the activations of ML programs to 8 bits, with ranges that were measured on samples.

coremltools' `linear_quantize_activations` predicts with Apple's framework; and of several samples it keeps the
ranges of the last one only. Here the ranges come from whoever runs the model; coremltools inserts the operations.
"""

import contextlib
import functools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.program_selection import Selection
from pytest_quantguard.schemes.program_tensors import all_operations, element_type
from pytest_quantguard.schemes.repairs import wrapped

Calibrate = Callable[[Any], Iterable[Mapping[str, NDArray[Any]]]]
"""Takes a coremltools `MLModel` and gives, for every sample, its inputs and outputs by name."""

_ARRAY_TYPES = ("FLOAT16", "FLOAT32")


def quantize_activations(mlmodel: Any, selection: Selection, calibrate: Calibrate) -> Any:
    """Insert `quantize` and `dequantize` around the operations that coremltools quantizes.

    Args:
        mlmodel: an ML program for iOS 17 or later.
        selection: the scheme, and which operations it leaves out.
        calibrate: runs the model with more outputs over the samples.

    Returns:
        A coremltools `MLModel` in a temporary package.

    Raises:
        SchemeError: there is no operation whose activations can be quantized.
    """
    import coremltools.optimize.coreml as cto
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.optimize.coreml import experimental  # noqa: F401  registers the passes in coremltools 8

    scheme = selection.scheme
    # coremltools 8 has a configuration of its own.
    configure = PASS_REGISTRY["compression::insert_prefix_quantize_dequantize_pair"]._SUPPORTED_CONFIG_TYPE
    config = cto.OptimizationConfig(
        global_config=configure(mode=scheme.activation_mode, dtype=scheme.activations),
        op_name_configs={
            operation.name: None for operation in selection.operations if selection.is_left_out(operation)
        },
    )
    probe = with_all_outputs(mlmodel)
    try:
        ranges = measured_ranges(calibrate(probe))
    finally:
        shutil.rmtree(probe.package_path, ignore_errors=True)
    share_ranges(ranges, concatenations(mlmodel.get_spec().mlProgram))
    with _given_ranges(ranges) as linear_quantize_activations:
        result = linear_quantize_activations(mlmodel, config, [])
    if not any(operation.type == "quantize" for operation in all_operations(result.get_spec().mlProgram)):
        raise SchemeError("it has no convolution, pooling, linear operation or addition to quantize")
    return result


def with_all_outputs(mlmodel: Any) -> Any:
    """The same model with every floating-point tensor in its main block as an output."""
    from coremltools.models import MLModel
    from coremltools.proto.FeatureTypes_pb2 import ArrayFeatureType

    spec = mlmodel.get_spec()
    known = {feature.name for feature in spec.description.output}
    for function in spec.mlProgram.functions.values():
        block = function.block_specializations[function.opset]
        for operation in block.operations:
            if operation.type == "const" or operation.type.startswith("constexpr_"):
                continue
            for output in operation.outputs:
                kind = element_type(output.type)
                if kind in _ARRAY_TYPES and output.name not in known:
                    block.outputs.append(output.name)
                    feature = spec.description.output.add(name=output.name)
                    feature.type.multiArrayType.dataType = ArrayFeatureType.ArrayDataType.Value(kind)
    return MLModel(spec, weights_dir=mlmodel.weights_dir, skip_model_load=mlmodel.__proxy__ is None)


def measured_ranges(samples: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, dict[str, Any]]:
    """The least and the largest value of each tensor over all samples, as coremltools' passes take them."""
    ranges: dict[str, dict[str, Any]] = {}
    for values in samples:
        for name, value in values.items():
            known = ranges.setdefault(name, {"rmin": np.inf, "rmax": -np.inf})
            known["rmin"] = min(known["rmin"], float(np.min(value)))
            known["rmax"] = max(known["rmax"], float(np.max(value)))
    return ranges


def concatenations(program: Any) -> list[set[str]]:
    """For each concatenation, the names of the tensors that go in and come out."""
    return [
        {binding.name for binding in operation.inputs["values"].arguments} | {operation.outputs[0].name}
        for operation in all_operations(program)
        if operation.type == "concat"
    ]


def share_ranges(ranges: dict[str, dict[str, Any]], groups: list[set[str]]) -> None:
    """Give the tensors of a group one range, and groups that share a tensor as well."""
    merged: list[set[str]] = []
    for group in groups:
        touching = [other for other in merged if other & group]
        merged = [other for other in merged if not other & group] + [group.union(*touching)]
    for group in merged:
        known = [ranges[name] for name in group if name in ranges]
        for found in known:
            found["rmin"], found["rmax"] = min(r["rmin"] for r in known), max(r["rmax"] for r in known)


@contextlib.contextmanager
def _given_ranges(ranges: dict[str, dict[str, Any]]) -> Iterator[Any]:
    """coremltools' `linear_quantize_activations`, which takes these ranges and does not predict."""
    import coremltools.optimize.coreml as cto
    from coremltools.optimize import _utils
    from coremltools.optimize.coreml import experimental

    function = getattr(cto, "linear_quantize_activations", None) or experimental.linear_quantize_activations
    module = sys.modules[function.__module__]
    with (
        wrapped(module, "_get_activation_calibration_stats", lambda _: lambda *_, **__: ranges),
        wrapped(_utils, "get_min_and_max_values", _wide_range),
        wrapped(_utils, "quantize_weight_by_dtype", _float16_scale),
    ):
        yield function


def _wide_range(original: Any) -> Any:
    """The range of a tensor; coremltools computes scales from it in float16, which overflows from 32,752 on.

    Only then it is given as float32; otherwise the scales are coremltools' own.
    """

    @functools.wraps(original)
    def least_and_largest(activation_stats: Any, var_name: str) -> NDArray[Any]:
        found: NDArray[Any] = original(activation_stats, var_name)
        known = np.array([activation_stats[var_name]["rmin"], activation_stats[var_name]["rmax"]], np.float32)
        return known if 2 * np.abs(known).max() > np.finfo(np.float16).max else found

    return least_and_largest


def _float16_scale(original: Any) -> Any:
    """The scale as float16, which it is where the range is."""

    @functools.wraps(original)
    def quantize(*arguments: Any, **options: Any) -> tuple[Any, Any, Any]:
        data, scale, zero_point = original(*arguments, **options)
        return data, scale.astype(np.float16), zero_point

    return quantize
