"""Settings of a session and options of a marker: frozen, validated, keyword only."""

import dataclasses
import difflib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_quantguard.errors import SchemeError
from pytest_quantguard.runtime import ENGINES
from pytest_quantguard.samples.sample import CROP_AND_SCALE
from pytest_quantguard.schemes.scheme import LutFunction, Scheme

MARKER = "quantized"


@dataclass(frozen=True, kw_only=True)
class Option:
    """A setting: the flag `--quantguard-NAME` and the ini entry `quantguard-NAME`."""

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] | None = None
    flag_only: bool = False
    """Whether the flag takes no value; the ini entry is then a boolean."""

    @property
    def ini(self) -> str:
        """The name of the ini entry."""
        return f"quantguard-{self.name}"

    @property
    def destination(self) -> str:
        """The attribute of `config.option`."""
        return self.ini.replace("-", "_")


OPTIONS = (
    Option(
        name="model",
        default=None,
        help="the float model: a .mlmodel file or a .mlpackage folder",
    ),
    Option(
        name="samples",
        default=None,
        help="the sample folder: one folder of images per label, or a flat folder of images without labels",
    ),
    Option(
        name="engine",
        default="auto",
        choices=ENGINES,
        help="what executes the models: Apple's framework (coreml, macOS only), onnxruntime (portable), or "
        "coreml on macOS and portable elsewhere (auto)",
    ),
    Option(
        name="crop-and-scale",
        default="center_crop",
        choices=CROP_AND_SCALE,
        help="how an image is brought to the model's input size, with Vision's names and meanings",
    ),
    Option(
        name="max-drop",
        default=0.01,
        help="how far a new baseline lets a metric drop, as a share: 0.01 is one point",
    ),
    Option(
        name="allow-unknown-labels",
        default=False,
        flag_only=True,
        help="let sample folders be named after no label of the model; their samples count for agreement only",
    ),
)


def add_options(parser: pytest.Parser) -> None:
    """Register every setting as a flag and as an ini entry; flags default to None so that ini entries count."""
    group = parser.getgroup("quantguard", "accuracy gates for quantized Core ML models")
    for option in OPTIONS:
        shown = f"{option.help} (default: {option.default})" if option.default is not None else option.help
        flag = f"--{option.ini}"
        if option.flag_only:
            group.addoption(flag, dest=option.destination, action="store_true", default=None, help=shown)
            parser.addini(option.ini, f"{shown}; the flag {flag} wins", type="bool", default=None)
        else:
            metavar = "|".join(option.choices) if option.choices else option.name.upper()
            group.addoption(flag, dest=option.destination, default=None, metavar=metavar, help=shown)
            parser.addini(option.ini, f"{shown}; the flag {flag} wins", default=None)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for the whole session unless a marker says otherwise."""

    root: Path
    """Relative paths of markers and ini entries start here; those of flags start where pytest was called."""
    model: Path | None = None
    samples: Path | None = None
    engine: str = "auto"
    crop_and_scale: str = "center_crop"
    max_drop: float = 0.01
    allow_unknown_labels: bool = False

    @classmethod
    def from_pytest_config(cls, config: pytest.Config) -> "Settings":
        """Read the settings: flag over ini entry over default.

        Raises:
            pytest.UsageError: a value is not valid; the message names the flag or ini entry and the valid ones.
        """
        values = {option.destination.removeprefix("quantguard_"): _value(config, option) for option in OPTIONS}
        return cls(root=config.rootpath, **values)


def _value(config: pytest.Config, option: Option) -> Any:
    flag, ini = config.getoption(option.destination), config.getini(option.ini)
    value, source, start = ini, f"the ini entry {option.ini}", config.rootpath
    if flag is not None:
        value, source, start = flag, f"--{option.ini}", config.invocation_params.dir
    if value is None or value == "":
        return option.default
    if option.choices:
        return check_choice(value, option.choices, source)
    if option.name == "max-drop":
        return check_max_drop(value, source)
    return value if option.flag_only else start / value


def check_choice(value: Any, choices: Sequence[str], source: str) -> str:
    """`value` if it is one of `choices`; UsageError otherwise."""
    if value not in choices:
        raise pytest.UsageError(f"{source}={value!r} does not exist; use one of {', '.join(choices)}.")
    return str(value)


def check_max_drop(value: Any, source: str) -> float:
    """`value` as a share between 0 and 1; UsageError otherwise."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number <= 1 or isinstance(value, bool):
        raise pytest.UsageError(f"{source}={value!r} is no share; use a number from 0 to 1, 0.01 for one point.")
    return number


@dataclass(frozen=True, kw_only=True)
class MarkerOptions:
    """What one `@pytest.mark.quantized(...)` asks for: a single scheme, and overrides of the settings."""

    bits: int
    mode: str = "linear"
    lut_function: LutFunction | None = None
    model: str | Path | None = None
    samples: str | Path | None = None
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
        for name in ("model", "samples"):
            if not isinstance(getattr(self, name), str | Path | None):
                raise pytest.UsageError(f"{where} {name}={getattr(self, name)!r} is no path.")
        try:
            object.__setattr__(self, "mode", self.scheme.mode)
        except SchemeError as error:
            raise pytest.UsageError(f"{where} {error}") from error

    @property
    def scheme(self) -> Scheme:
        """The scheme to quantize with."""
        return Scheme(self.bits, self.mode, self.lut_function)

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


ARGUMENTS = tuple(field.name for field in dataclasses.fields(MarkerOptions))


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
        combined = [{**outer, **inner} for inner in level for outer in combined]
    options: list[MarkerOptions] = []
    for arguments in combined if levels else ():
        for option in _expand(arguments):
            if option not in options:
                options.append(option)
    return tuple(options)


def keywords(mark: pytest.Mark) -> dict[str, Any]:
    """The keyword arguments of a mark, checked by name."""
    valid = f"valid are {', '.join(ARGUMENTS)}."
    if mark.args:
        raise pytest.UsageError(
            f"@pytest.mark.{MARKER} takes keyword arguments only, not {mark.args[0]!r}; {valid}"
        )
    for name in mark.kwargs:
        if name not in ARGUMENTS:
            close = difflib.get_close_matches(name, ARGUMENTS, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise pytest.UsageError(f"@pytest.mark.{MARKER} has no argument {name!r}: {hint}{valid}")
    return dict(mark.kwargs)


def _expand(arguments: dict[str, Any]) -> list[MarkerOptions]:
    """One option per combination of the lists given for `bits` and `mode`."""
    if "bits" not in arguments:
        raise pytest.UsageError(f"@pytest.mark.{MARKER} needs bits=, for instance bits=8.")
    axes = {name: _as_list(arguments[name], name) for name in ("bits", "mode") if name in arguments}
    fixed = {name: value for name, value in arguments.items() if name not in axes}
    return [
        MarkerOptions(**fixed, **dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    ]


def _as_list(value: Any, name: str) -> list[Any]:
    values = list(value) if isinstance(value, list | tuple | range) else [value]
    if not values:
        raise pytest.UsageError(f"@pytest.mark.{MARKER}: {name} is an empty list; name at least one.")
    return values


def unique_ids(options: Sequence[MarkerOptions]) -> list[str]:
    """Test ids like `8-kmeans_lut`; where two would be equal, what tells them apart is added."""
    ids = [option.scheme.id for option in options]
    for name in ("model", "samples", "crop_and_scale"):
        if len(set(ids)) == len(ids):
            break
        if len({str(getattr(option, name)) for option in options}) > 1:
            ids = [
                f"{id_}-{Path(str(getattr(option, name))).name}" if getattr(option, name) else id_
                for id_, option in zip(ids, options, strict=True)
            ]
    return ids
