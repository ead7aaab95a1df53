"""The mark `quantized`: its arguments, validated, and the tests it makes."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_quantguard.config import Settings, check_choice, check_max_drop
from pytest_quantguard.errors import SchemeError
from pytest_quantguard.samples.sample import CROP_AND_SCALE
from pytest_quantguard.schemes.option_names import advice
from pytest_quantguard.schemes.scheme import ALIASES, MODES, Scheme, make_scheme

MARKER = "quantized"
FIXTURES = ("float_model", "quantized_model", "sample_folder", "comparison", "accuracy_snapshot")


@dataclass(frozen=True, kw_only=True)
class MarkerOptions:
    """What one `@pytest.mark.quantized(...)` asks for: a single scheme, and overrides of the settings."""

    scheme: Scheme
    model: str | Path | None = None
    samples: str | Path | None = None
    calibration: str | Path | None = None
    crop_and_scale: str | None = None
    max_drop: float | None = None
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"@pytest.mark.{MARKER}:"
        if self.crop_and_scale is not None:
            check_choice(self.crop_and_scale, CROP_AND_SCALE, f"{where} crop_and_scale")
        if self.max_drop is not None:
            check_max_drop(self.max_drop, f"{where} max_drop")
        if not isinstance(self.thresholds, Mapping):
            raise pytest.UsageError(f"{where} thresholds must be a dictionary of metric name and number.")
        if self.thresholds:
            from pytest_quantguard.gate.limits import check_thresholds

            try:
                check_thresholds(self.thresholds)
            except pytest.UsageError as error:
                raise pytest.UsageError(f"{where} {error}") from error
        for name in ("model", "samples", "calibration"):
            if not isinstance(getattr(self, name), str | Path | None):
                raise pytest.UsageError(f"{where} {name}={getattr(self, name)!r} is no path.")

    def settings(self, settings: Settings) -> Settings:
        """The session's settings with this marker's overrides; its paths start at the root directory."""
        changes: dict[str, Any] = {}
        for name in ("model", "samples"):
            if getattr(self, name) is not None:
                changes[name] = settings.root / getattr(self, name)
        for name in ("crop_and_scale", "max_drop"):
            if getattr(self, name) is not None:
                changes[name] = getattr(self, name)
        return dataclasses.replace(settings, **changes)


SCHEME_ARGUMENTS = ("scheme", *(field.name for field in dataclasses.fields(Scheme)))
OTHER_ARGUMENTS = tuple(field.name for field in dataclasses.fields(MarkerOptions) if field.name != "scheme")
ARGUMENTS = (*SCHEME_ARGUMENTS[1:], "scheme", *OTHER_ARGUMENTS)


def marker_options(marks: Iterable[tuple[Any, pytest.Mark]]) -> tuple[MarkerOptions, ...]:
    """Every combination that the marks on one test ask for, without duplicates.

    Args:
        marks: (node, mark) pairs, closest node first, as `iter_markers_with_node` yields them. Marks on the
            same node add up; a closer node overrides the arguments it names and inherits the others.

    Raises:
        pytest.UsageError: an argument is positional, unknown or not valid.
    """
    levels = [
        [keywords(mark) for _, mark in group]
        for _, group in itertools.groupby(marks, key=lambda pair: id(pair[0]))
    ]
    combined: list[dict[str, Any]] = [{}]
    for level in reversed(levels):
        combined = [_inherit(outer, inner) for inner in level for outer in combined]
    options: list[MarkerOptions] = []
    for arguments in combined if levels else ():
        for option in _expand(arguments):
            if option not in options:
                options.append(option)
    return tuple(options)


def _inherit(outer: dict[str, Any], inner: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a closer mark and those it inherits; `scheme` stands in for all others of a scheme."""
    replaced: set[str] = set()
    if "scheme" in inner:
        replaced = set(SCHEME_ARGUMENTS)
    elif set(inner) & set(SCHEME_ARGUMENTS):
        replaced = {"scheme"}
    return {**{name: value for name, value in outer.items() if name not in replaced}, **inner}


def keywords(mark: pytest.Mark) -> dict[str, Any]:
    """The keyword arguments of a mark, checked by name."""
    if mark.args:
        raise pytest.UsageError(
            f"@pytest.mark.{MARKER} takes keyword arguments only, not {mark.args[0]!r}; "
            f"valid are {', '.join(ARGUMENTS)}."
        )
    for name in mark.kwargs:
        if name not in ARGUMENTS:
            raise pytest.UsageError(f"@pytest.mark.{MARKER} has no argument {name!r}: {advice(name, ARGUMENTS)}")
    return dict(mark.kwargs)


_AXES = ("bits", "mode", "scheme")


def _expand(arguments: dict[str, Any]) -> list[MarkerOptions]:
    """One option per combination of the lists given for `bits`, `mode` and `scheme`."""
    axes = {name: _as_list(arguments[name], name) for name in _AXES if name in arguments}
    modes = axes.get("mode", MODES)
    if not {"bits", "scheme", "config"} & set(arguments) and any(mode in (*MODES, *ALIASES) for mode in modes):
        raise pytest.UsageError(f"@pytest.mark.{MARKER} needs bits=, for instance bits=8.")
    fixed = {name: value for name, value in arguments.items() if name not in axes}
    scheme = {name: value for name, value in fixed.items() if name in SCHEME_ARGUMENTS}
    others = {name: value for name, value in fixed.items() if name in OTHER_ARGUMENTS}
    try:
        return [
            MarkerOptions(scheme=make_scheme({**scheme, **dict(zip(axes, values, strict=True))}), **others)
            for values in itertools.product(*axes.values())
        ]
    except SchemeError as error:
        raise pytest.UsageError(f"@pytest.mark.{MARKER}: {error}") from error


def _as_list(value: Any, name: str) -> list[Any]:
    values = list(value) if isinstance(value, list | tuple | range) else [value]
    if not values:
        raise pytest.UsageError(f"@pytest.mark.{MARKER}: {name} is an empty list; name at least one.")
    return values


def unique_ids(options: Sequence[MarkerOptions]) -> list[str]:
    """Test ids like `8-kmeans_lut`; where two would be equal, what tells them apart is added."""
    ids = [option.scheme.id for option in options]
    for name in ("model", "samples", "calibration", "crop_and_scale"):
        if len(set(ids)) == len(ids):
            break
        if len({str(getattr(option, name)) for option in options}) > 1:
            ids = [
                f"{id_}-{Path(str(getattr(option, name))).name}" if getattr(option, name) else id_
                for id_, option in zip(ids, options, strict=True)
            ]
    return ids


MARKER_HELP = (
    f"{MARKER}({', '.join(f'{name}=...' for name in ARGUMENTS)}): "
    "quantize the project's Core ML model and compare it with the float model. bits is 16 or 8 down to 1; "
    "mode is kmeans_lut (the default), linear, linear_symmetric, linear_lut or custom_lut (with "
    "lut_function=); lists, and several marks, make one test per combination. kmeans='optimal', "
    "skip_layers and only_layers hold for every model, minimum_weight_count, minimum_conv_kernel_channels, "
    "selector and requantize=True for neural networks, the others for ML programs; scheme='linear:4,per_block=32' "
    "says it all in one. model, samples, calibration (samples for activations; all from the root directory), "
    "crop_and_scale and max_drop override settings; thresholds={'top1_agreement': 0.97} pins a metric. "
    "Use the fixtures comparison and accuracy_snapshot."
)

USES_NOTHING = (
    f"the test is marked {MARKER} but uses none of the fixtures {', '.join(FIXTURES)}, so it would check nothing; "
    "take one of them as an argument or remove the mark."
)


def make_one_test_per_scheme(metafunc: pytest.Metafunc) -> None:
    """Parametrize a marked test that asks for several schemes.

    Raises:
        pytest.Collector.CollectError: the mark is wrong, or the test uses none of our fixtures.
    """
    marks = list(metafunc.definition.iter_markers_with_node(MARKER))
    if not marks:
        return
    try:
        options = marker_options(marks)
    except pytest.UsageError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from error
    if not set(FIXTURES) & set(metafunc.fixturenames):
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {USES_NOTHING}")
    if len(options) > 1:
        metafunc.parametrize("quantguard_options", options, indirect=True, ids=unique_ids(options))


def refuse_mark_without_fixture(item: pytest.Item) -> None:
    """Fail a marked test that would check nothing and was collected without `pytest_generate_tests`.

    Methods of unittest.TestCase are, and items of other plugins.
    """
    if item.get_closest_marker(MARKER) and not set(FIXTURES) & set(getattr(item, "fixturenames", ())):
        pytest.fail(f"{item.nodeid}: {USES_NOTHING}", pytrace=False)


def options_of_test(item: pytest.Item) -> MarkerOptions | None:
    """What the marks of a test that is not parametrized ask for; None without a mark.

    Raises:
        pytest.UsageError: marks on a pytest.param add up to several schemes.
    """
    options = marker_options(item.iter_markers_with_node(MARKER))
    if len(options) > 1:
        raise pytest.UsageError(
            f"A {MARKER} mark on a pytest.param names one scheme and stands alone; move others to the test."
        )
    return options[0] if options else None
