"""What the mark makes of a test, and how a wrong mark is refused."""

import pytest


def collected(project):
    lines = project.runpytest_inprocess("--collect-only", "-q", "--strict-markers").stdout.lines
    return [line.split("::", 1)[1] for line in lines if "::" in line]


def test_one_scheme_keeps_the_name_of_the_test(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.quantized(bits=8, mode="kmeans_lut")
        def test_app(comparison): pass
        """
    )
    assert collected(pytester) == ["test_app"]


def test_lists_make_one_test_a_combination(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.quantized(bits=[8, 4], mode=["linear", "kmeans"])
        def test_app(comparison): pass
        """
    )
    assert collected(pytester) == [
        "test_app[8-linear]",
        "test_app[8-kmeans_lut]",
        "test_app[4-linear]",
        "test_app[4-kmeans_lut]",
    ]


def test_several_marks_make_one_test_each(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.quantized(bits=8, mode="kmeans_lut")
        @pytest.mark.quantized(bits=6, mode="linear")
        def test_app(comparison): pass
        """
    )
    assert sorted(collected(pytester)) == ["test_app[6-linear]", "test_app[8-kmeans_lut]"]


def test_marks_work_on_classes_and_modules(pytester):
    pytester.makepyfile(
        """
        import pytest
        pytestmark = pytest.mark.quantized(bits=8, mode="linear")
        def test_module(comparison): pass

        @pytest.mark.quantized(bits=[6, 4])
        class TestApp:
            def test_method(self, comparison): pass
            @pytest.mark.quantized(bits=2)
            def test_closer(self, comparison): pass
        """
    )
    assert collected(pytester) == [
        "test_module",
        "TestApp::test_method[6-linear]",
        "TestApp::test_method[4-linear]",
        "TestApp::test_closer",
    ]


def test_marks_combine_with_parametrize(pytester):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.parametrize("crop", ["a", "b"])
        @pytest.mark.quantized(bits=[8, 4])
        def test_app(comparison, crop): pass
        """
    )
    assert sorted(collected(pytester)) == [
        "test_app[4-kmeans_lut-a]",
        "test_app[4-kmeans_lut-b]",
        "test_app[8-kmeans_lut-a]",
        "test_app[8-kmeans_lut-b]",
    ]


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("bits=9", "bits=9 does not exist; use one of 16, 8, 7, 6, 5, 4, 3, 2, 1."),
        ("bits=8, mode='kmean'", "mode='kmean' does not exist; use one of linear, linear_symmetric, linear_lut"),
        (
            "bit=8",
            "has no argument 'bit': did you mean bits? valid are bits, mode, lut_function, kmeans, skip_layers",
        ),
        ("8", "takes keyword arguments only, not 8; valid are bits, mode"),
    ],
)
def test_a_wrong_mark_fails_the_collection(pytester, mark, message):
    pytester.makepyfile(
        f"""
        import pytest
        @pytest.mark.quantized({mark})
        def test_app(comparison): pass
        """
    )
    result = pytester.runpytest_inprocess()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    output = result.stdout.str()
    assert "test_app" in output
    assert message in output.replace("\nE   ", "")
    assert "Traceback" not in output


def test_a_marked_test_that_uses_no_fixture_is_an_error(pytester, plugin_args):
    pytester.makepyfile(
        """
        import pytest
        @pytest.mark.quantized(bits=8)
        def test_app(): pass
        """
    )
    result = pytester.runpytest_inprocess(*plugin_args)
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)  # without xdist; with it
    result.stdout.fnmatch_lines(["*marked quantized but uses none of the fixtures float_model, quantized_model*"])


def test_a_marked_unittest_method_is_an_error(pytester):
    pytester.makepyfile(
        """
        import pytest, unittest
        class TestApp(unittest.TestCase):
            @pytest.mark.quantized(bits=8)
            def test_app(self): pass
        """
    )
    result = pytester.runpytest_inprocess()
    result.stdout.fnmatch_lines(["*marked quantized but uses none of the fixtures*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_fixture_that_needs_a_scheme_says_so_without_a_mark(gate):
    project = gate()
    project.makepyfile(test_app="def test_app(comparison): pass")
    result = project.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*quantized_model and comparison need a scheme; mark the test*"])


def test_a_session_without_marked_tests_imports_nothing_heavy(pytester):
    pytester.makepyfile(
        """
        import sys
        def test_imports():
            heavy = {"coremltools", "onnx", "onnxruntime", "sklearn", "scipy", "numpy", "PIL"}
            assert not heavy & set(sys.modules)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
