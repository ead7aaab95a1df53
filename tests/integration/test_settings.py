"""Marker over flag over ini entry over default, for every setting."""

import pytest

from pytest_quantguard.config import OPTIONS, Settings
from pytest_quantguard.marker import MarkerOptions
from pytest_quantguard.schemes.scheme import Scheme

# name, ini text, flag text, marker value or None where the marker has no such argument; then what each one gives
TABLE = [
    ("model", "i.mlmodel", "f.mlmodel", "m.mlmodel", [None, "i.mlmodel", "f.mlmodel", "m.mlmodel"]),
    ("samples", "ini", "flag", "marker", [None, "ini", "flag", "marker"]),
    ("engine", "coreml", "portable", None, ["auto", "coreml", "portable", "portable"]),
    ("precision", "float16", "float32", None, ["float32", "float16", "float32", "float32"]),
    (
        "crop-and-scale",
        "scale_fit",
        "scale_fill",
        "center_crop",
        ["center_crop", "scale_fit", "scale_fill", "center_crop"],
    ),
    ("max-drop", "0.02", "0.03", 0.04, [0.01, 0.02, 0.03, 0.04]),
]


def effective(pytester, name, ini, flag, marker):
    """The value in force with the given ini text, flag text and marker value; None leaves one out."""
    if ini is not None:
        pytester.makefile(".ini", pytest=f"[pytest]\nquantguard-{name} = {ini}\n")
    arguments = [] if flag is None else [f"--quantguard-{name}={flag}"]
    config = pytester.parseconfig(*arguments)
    attribute = name.replace("-", "_")
    options = MarkerOptions(scheme=Scheme(8), **({} if marker is None else {attribute: marker}))
    value = getattr(options.settings(Settings.from_pytest_config(config)), attribute)
    if attribute in ("model", "samples") and value is not None:
        assert value.parent == config.rootpath
        return value.name
    return value


@pytest.mark.parametrize(("name", "ini", "flag", "marker", "expected"), TABLE, ids=[row[0] for row in TABLE])
@pytest.mark.parametrize("given", [0, 1, 2, 3], ids=["default", "ini", "ini+flag", "ini+flag+marker"])
def test_marker_over_flag_over_ini_over_default(pytester, name, ini, flag, marker, expected, given):
    found = effective(
        pytester, name, ini if given > 0 else None, flag if given > 1 else None, marker if given > 2 else None
    )
    assert found == expected[given]


def test_the_table_names_every_setting_that_takes_a_value():
    assert [row[0] for row in TABLE] == [option.name for option in OPTIONS if not option.flag_only]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--quantguard-engine=tpu",
            "--quantguard-engine='tpu' does not exist; use one of auto, coreml, portable.",
        ),
        ("--quantguard-crop-and-scale=squash", "use one of center_crop, scale_fit, scale_fill."),
        ("--quantguard-max-drop=lots", "--quantguard-max-drop='lots' is no share; use a number from 0 to 1"),
        ("--quantguard-max-drop=nan", "--quantguard-max-drop='nan' is no share"),
    ],
)
def test_a_wrong_flag_stops_the_run(pytester, argument, message):
    result = pytester.runpytest_inprocess(argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}*"])


def test_a_wrong_ini_entry_is_named(pytester):
    pytester.makefile(".ini", pytest="[pytest]\nquantguard-max-drop = 5\n")
    result = pytester.runpytest_inprocess()
    result.stderr.fnmatch_lines(["*the ini entry quantguard-max-drop='5' is no share*"])


def test_allow_unknown_labels_is_a_flag_and_an_ini_entry(pytester):
    assert not Settings.from_pytest_config(pytester.parseconfig()).allow_unknown_labels
    assert Settings.from_pytest_config(
        pytester.parseconfig("--quantguard-allow-unknown-labels")
    ).allow_unknown_labels
    pytester.makefile(".ini", pytest="[pytest]\nquantguard-allow-unknown-labels = true\n")
    assert Settings.from_pytest_config(pytester.parseconfig()).allow_unknown_labels


def test_flags_start_where_pytest_was_called(pytester):
    (pytester.path / "sub").mkdir()
    pytester.makefile(".ini", pytest="[pytest]\n")
    pytester.chdir()
    settings = Settings.from_pytest_config(pytester.parseconfig("--quantguard-model=a.mlmodel"))
    assert settings.model == pytester.path / "a.mlmodel"


def test_help_markers_and_fixtures_explain_everything(pytester):
    shown = pytester.runpytest_inprocess("--help").stdout.str()
    assert all(f"--quantguard-{option.name}" in shown for option in OPTIONS)
    assert all(f"  quantguard-{option.name} (" in shown for option in OPTIONS)
    markers = pytester.runpytest_inprocess("--markers").stdout.str()
    assert "@pytest.mark.quantized(bits=..., mode=..." in markers
    fixtures = pytester.runpytest_inprocess("--fixtures").stdout.str()
    for name in ("float_model", "quantized_model", "sample_folder", "comparison", "accuracy_snapshot"):
        assert f"\n{name} -- " in fixtures
    assert "no docstring available" not in fixtures.split("pytest_quantguard.plugin")[1].split("\n---")[0]
