"""Schemes in the mark: those of ML programs, third parties' schemes, and what the summary says about them."""

import importlib
import importlib.util

import numpy as np
import pytest
from model_makers import small_program
from PIL import Image

from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.quiet import import_coremltools

GATE = """
    import pytest

    @pytest.mark.quantized({arguments})
    def test_gate(comparison, accuracy_snapshot):
        print("scheme:", comparison.scheme)
        assert comparison == accuracy_snapshot
"""
PLUGIN = """
    import coremltools.optimize.coreml as cto

    def halves(mlmodel, *, level=0.5, tags=()):
        print("called with", level, tags)
        config = cto.OptimizationConfig(cto.OpMagnitudePrunerConfig(target_sparsity=level))
        return cto.prune_weights(mlmodel, config)

    def broken(mlmodel):
        raise KeyError("no such thing")
"""


@pytest.fixture(scope="module")
def program(libraries):
    import coremltools.optimize.coreml.experimental  # noqa: F401  registers passes, which it can do but once

    return small_program(import_coremltools().target.iOS18)


@pytest.fixture
def project(program, pytester):
    """A project with an ML program for iOS 18 that takes images of 8 x 8, and two samples."""
    save_model(program, pytester.path / "model.mlpackage")
    rng = np.random.default_rng(0)
    for folder in ("samples", "calibration"):
        (pytester.path / folder).mkdir()
        for index in range(2):
            pixels = rng.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(pytester.path / folder / f"{index}.png")
    pytester.makeini("[pytest]\nquantguard-model = model.mlpackage\nquantguard-samples = samples\n")
    return pytester


def install(pytester, **schemes):
    """A distribution with entry points, as pip would leave it."""
    pytester.makepyfile(third_party=PLUGIN)
    folder = pytester.mkdir("third_party-1.0.dist-info")
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in schemes.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[pytest_quantguard.schemes]", *lines]) + "\n")
    pytester.syspathinsert()
    importlib.invalidate_caches()


def run(project, arguments, *flags):
    project.makepyfile(GATE.format(arguments=arguments))
    return project.runpytest("--snapshot-update", "-s", *flags)


@pytest.mark.parametrize(
    "arguments",
    [
        "bits=4, mode='linear', per_block=8",
        "scheme='linear:4,per_block=8'",
        "scheme=__import__('pytest_quantguard').Scheme(4, 'linear', per_block=8)",
    ],
)
def test_a_scheme_is_given_by_arguments_text_or_value(project, arguments):
    result = run(project, arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*scheme: linear:4,per_block=8", "*linear:4,per_block=8*created*"])
    assert '"scheme": "linear:4,per_block=8"' in next(project.path.rglob("test_gate.json")).read_text()


def test_several_texts_make_a_test_each(project):
    result = run(
        project, "scheme=['sparse:0.5', 'kmeans_lut:2,sparsity=0.5', 'unique_lut']", "--collect-only", "-q"
    )
    result.stdout.fnmatch_lines(["*[[]0.5-sparse]", "*[[]2-kmeans_lut-sparsity=0.5]", "*[[]unique_lut]"])


def test_a_config_of_coremltools_is_taken_as_it_is(project):
    config = "cto.OptimizationConfig(cto.OpPalettizerConfig(nbits=2))"
    project.makepyfile(configs=f"import coremltools.optimize.coreml as cto\nconfig = {config}")
    project.syspathinsert()
    result = run(project, "config=__import__('configs').config, max_drop=0.5")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*scheme: config:OpPalettizerConfig(nbits=2)"])


@pytest.mark.skipif(
    importlib.util.find_spec("coremltools.optimize._utils") is None,
    reason="this coremltools cannot quantize activations without Apple's framework",
)
def test_activations_are_calibrated_on_a_folder_named_in_the_mark(project):
    result = run(project, "scheme='linear_symmetric:8,activations=int8', calibration='calibration', max_drop=1")
    result.assert_outcomes(passed=1)
    result = run(project, "scheme='linear_symmetric:8,activations=int8'")
    result.stdout.fnmatch_lines(["*is calibrated on samples of model.mlpackage; name some with calibration=*"])
    result = run(project, "scheme='linear_symmetric:8,activations=int8', calibration='calibrations'")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*calibrations*"])


def test_operations_that_coremltools_declines_are_named_in_the_summary(project):
    result = run(project, "bits=2, group_size=3, max_drop=1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "note: 2-bit kmeans_lut (group_size=3): coremltools declined conv_1_cast_fp16 (the channels are no "
            "multiple of the group size)."
        ]
    )


def test_a_closer_scheme_replaces_what_outer_marks_say(project):
    project.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.quantized(bits=8, mode="linear", per_tensor=True)

        @pytest.mark.quantized(scheme="sparse:0.5")
        class TestClass:
            def test_whole(self, quantized_model): assert str(quantized_model.scheme) == "sparse:0.5"

            @pytest.mark.quantized(bits=4)
            def test_again(self, quantized_model): assert str(quantized_model.scheme) == "kmeans_lut:4"

        def test_inherited(quantized_model): assert str(quantized_model.scheme) == "linear:8,per_tensor"
        """
    )
    project.runpytest().assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("scheme='linear'", "*'linear' is no scheme; write mode and bits, for instance kmeans_lut:8."),
        ("scheme='linear:8', bits=4", "*scheme='linear:8' says everything; leave bits out."),
        ("nbits=4", "*has no argument 'nbits': use bits; valid are bits, mode*"),
        ("bits=4, granularity='per_block'", "*'granularity': use per_tensor=, per_block= or group_size=; valid*"),
        ("mode='sparse'", "*mode='sparse' needs one of sparsity, threshold, n_m_ratio."),
    ],
)
def test_a_wrong_scheme_fails_the_collection(project, arguments, message):
    result = run(project, arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


class TestThirdParties:
    def test_their_schemes_are_named_in_the_mark(self, project):
        install(project, halves="third_party:halves")
        result = run(project, "mode='halves', arguments={'level': 0.75, 'tags': ['a', 'b']}, max_drop=1")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*scheme: halves,level=0.75,tags=[[]%22a*", "*halves*created*"])

    def test_or_written_as_text(self, project):
        install(project, halves="third_party:halves")
        result = run(project, "scheme='halves,level=0.75', max_drop=1")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*scheme: halves,level=0.75"])

    def test_an_error_names_scheme_distribution_and_function(self, project):
        install(project, mine="third_party:broken")
        result = run(project, "scheme='mine'")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(
            ["*model.mlpackage: the scheme 'mine' of third-party (third_party:broken) failed with KeyError: 'no*"]
        )

    def test_a_name_that_nobody_offers_is_refused_with_all_names(self, project):
        install(project, halves="third_party:halves")
        result = run(project, "scheme='quarters'")
        result.stdout.fnmatch_lines(["*mode='quarters' does not exist; use one of linear, *, float, halves."])

    def test_options_of_this_project_are_not_theirs(self, project):
        install(project, halves="third_party:halves")
        result = run(project, "mode='halves', group_size=4")
        result.stdout.fnmatch_lines(["*mode='halves' takes arguments=, not group_size."])
