"""Quantizing ML programs (`.mlpackage`) with `coremltools.optimize.coreml`."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.schemes.activations import Calibrate, quantize_activations
from pytest_quantguard.schemes.deployment import IOS16, IOS18, check_target, raise_target, target_name, too_old
from pytest_quantguard.schemes.given_config import GivenConfigs
from pytest_quantguard.schemes.program_repairs import only_tables, repaired_passes
from pytest_quantguard.schemes.program_selection import Selection, count_of, dense_name, select
from pytest_quantguard.schemes.program_steps import Step, prunes, steps_of, weight_threshold
from pytest_quantguard.schemes.program_tensors import all_operations
from pytest_quantguard.schemes.scheme import Scheme
from pytest_quantguard.schemes.tensor import DECLINED, SKIPPED

_CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"
_MOST_NAMES = 5
# What coremltools 9.0 does not get right with sparse weights: indices and scales keep the shape of dense ones.
_NOT_AFTER_PRUNING = ("cluster_dim", "per_channel_scale")


@dataclass(frozen=True, eq=False)
class QuantizedProgram:
    """A quantized ML program.

    Args:
        mlmodel: a coremltools `MLModel` in a temporary package.
        kept: tensors that keep their values and why, by the names that `program_tensors` gives.
        notes: sentences that the user should know.
    """

    mlmodel: Any
    kept: Mapping[str, str]
    notes: tuple[str, ...]


def quantize_program(
    mlmodel: Any, scheme: Scheme, *, name: str, calibrate: Calibrate | None = None
) -> QuantizedProgram:
    """Quantize a coremltools `MLModel` of type ML program with `coremltools.optimize.coreml`.

    One-dimensional tensors stay as they are, and those of at most `weight_threshold` weights.

    Args:
        mlmodel: the model; neither it nor its package is changed.
        scheme: a scheme that ML programs have.
        name: what to call the model in an error.
        calibrate: for schemes with activations; runs a model over the samples.

    Returns:
        The model, loaded if `mlmodel` is.

    Raises:
        SchemeError: the model has several functions, or an older deployment target than the scheme needs; or
            activations are to be quantized, and there are no samples or no such operations.
    """
    import coremltools.optimize.coreml._quantization_passes  # noqa: F401  registers the passes; coremltools 8 forgets to

    spec = mlmodel.get_spec()
    if spec.description.functions:
        raise SchemeError(
            f"{name} has several functions, which coremltools cannot quantize; quantize the models it was merged "
            "from, then merge them."
        )
    packages = _Packages(mlmodel)
    if scheme.deployment_target:
        packages.put(raise_target(mlmodel, scheme.deployment_target))
    version = packages.last.get_spec().specificationVersion
    check_target(version, scheme, name=name)
    selection = select(packages.last.get_spec().mlProgram, scheme, name=name)
    if scheme.activations:
        packages.put(_with_activations(packages.last, selection, calibrate, name))
    with repaired_passes(selection.kmeans_of) as declined:
        for step in steps_of(selection):
            packages.put(_apply(step, packages.last, version, scheme, name))
    compressed = _without_date_of_today(packages.last, spec.description.metadata.userDefined)
    packages.remove()
    notes = _notes(selection, declined) + _small_tables(scheme, compressed.get_spec().mlProgram)
    if version < IOS16:
        notes += (f"coremltools raises {name} from {target_name(version)} to {target_name(IOS16)}.",)
    reasons = {tensor: f"{DECLINED}: {reason}" if reason else DECLINED for tensor, reason in declined.items()}
    return QuantizedProgram(compressed, _kept(selection) | reasons, notes)


class _Packages:
    """The models on the way to the last one; those before it are removed."""

    def __init__(self, mlmodel: Any) -> None:
        self._given = self.last = mlmodel

    def put(self, mlmodel: Any) -> None:
        if mlmodel is not self.last:
            self.remove()
            self.last = mlmodel

    def remove(self) -> None:
        """Remove the last package, unless it is the one that was given."""
        if self.last is not self._given:
            shutil.rmtree(self.last.package_path, ignore_errors=True)


def _apply(step: Step, mlmodel: Any, version: int, scheme: Scheme, name: str) -> Any:
    import coremltools.optimize.coreml as cto

    try:
        with only_tables() if step.is_for_tables else contextlib.nullcontext():
            return getattr(cto, step.function)(mlmodel, step.config, joint_compression=step.is_joint)
    except (ValueError, IndexError) as error:
        # The second is what a table of 3 bits raises, which `unique_lut` makes of 5 to 8 different values.
        if version < IOS18 and ("iOS18" in str(error) or "Parameter lut should be" in str(error)):
            raise SchemeError(too_old(version, IOS18, "this scheme", name=name)) from error
        for option in _NOT_AFTER_PRUNING:
            if step.is_joint and any(option in part.given and prunes(part) for part in scheme.parts):
                raise SchemeError(
                    f"{name}: coremltools cannot palettize with {option} what was pruned ({type(error).__name__}: "
                    f"{error}); leave {option} out, or the pruning."
                ) from error
        raise


def _with_activations(mlmodel: Any, selection: Selection, calibrate: Calibrate | None, name: str) -> Any:
    scheme = selection.scheme
    if calibrate is None:
        raise SchemeError(
            f"activations={scheme.activations!r} is calibrated on samples of {name}; name some with calibration=."
        )
    try:
        return quantize_activations(mlmodel, selection, calibrate)
    except SchemeError as error:
        raise SchemeError(f"activations={scheme.activations!r} changes nothing in {name}: {error}.") from error


def _kept(selection: Selection) -> dict[str, str]:
    """The tensors that the scheme itself leaves as they are, where the usual reason would be wrong."""
    kept = {}
    for constant in selection.constants:
        scheme = selection.scheme_of(constant)
        if scheme is None or scheme.mode == "float":
            kept[constant.tensor] = SKIPPED
        elif len(constant.shape) > 1 and scheme.weight_threshold is not None:
            small = count_of(constant) <= weight_threshold(scheme)
            kept[constant.tensor] = f"{scheme.weight_threshold} weights or fewer" if small else DECLINED
    return kept


def _notes(selection: Selection, declined: Mapping[str, str]) -> tuple[str, ...]:
    """What coremltools only logs: the operations that it declined, and settings that were not followed."""
    users = {constant.tensor: constant.users[0].name for constant in selection.constants}
    by_reason: dict[str, list[str]] = {}
    for tensor, reason in declined.items():
        by_reason.setdefault(reason, []).append(users.get(dense_name(tensor), tensor))
    notes = []
    for reason, names in by_reason.items():
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        why = f" ({reason})" if reason else ""
        notes.append(
            f"{selection.scheme.title}: coremltools declined {', '.join(names[:_MOST_NAMES])}{more}{why}."
        )
    config = selection.scheme.config
    if isinstance(config, GivenConfigs) and config.had_workers:
        notes.append("num_kmeans_workers is taken for 1: with more, coremltools may hang for ever.")
    return tuple(notes)


def _small_tables(scheme: Scheme, program: Any) -> tuple[str, ...]:
    """A note on lookup tables that `lut_dtype` did not quantize: coremltools takes those of 10 values or more."""
    if not any(part.lut_dtype for part in scheme.parts):
        return ()
    tables = [
        operation.inputs["lut"].arguments[0]
        for operation in all_operations(program)
        if operation.type in ("constexpr_lut_to_dense", "constexpr_lut_to_sparse")
    ]
    count = sum(table.WhichOneof("binding") == "value" for table in tables)
    what = "1 lookup table is" if count == 1 else f"{count} lookup tables are"
    return (
        (f"{scheme.title}: {what} not quantized; coremltools takes those of 10 values or more.",) if count else ()
    )


def _without_date_of_today(compressed: Any, metadata: Any) -> Any:
    """The same model with the float model's conversion date, so that equal models are equal tomorrow.

    A new MLModel also lets go of the float weights, which the result of coremltools keeps in memory.
    """
    from coremltools.models import MLModel

    spec = compressed.get_spec()
    spec.description.metadata.userDefined.pop(_CONVERSION_DATE, None)
    if _CONVERSION_DATE in metadata:
        spec.description.metadata.userDefined[_CONVERSION_DATE] = metadata[_CONVERSION_DATE]
    return MLModel(
        spec,
        weights_dir=compressed.weights_dir,
        compute_units=compressed.compute_unit,
        skip_model_load=compressed.__proxy__ is None,
    )
