"""Settings of a session: flags, ini entries and defaults, validated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_quantguard.runtime import ENGINES, PRECISIONS
from pytest_quantguard.samples.sample import CROP_AND_SCALE


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
        name="precision",
        default="float32",
        choices=PRECISIONS,
        help="how the portable engine computes ML programs: in float32, or as typed, with float16 tensors rounded",
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
    precision: str = "float32"
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
