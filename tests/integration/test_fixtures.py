"""The fixtures, and the ways a project overrides them."""

import pytest
from model_makers import LABELS, small_network


def test_models_predict_save_and_tell_about_themselves(project):
    project.makepyfile(
        test_app="""
        import pytest
        from PIL import Image

        @pytest.mark.quantized(bits=8, mode="linear")
        def test_models(float_model, quantized_model, tmp_path):
            image = Image.new("RGB", (8, 8), "red")
            for model in (float_model, quantized_model):
                answer = model.predict({"image": image})
                assert answer["label"] in model.labels
                assert set(answer["probabilities"]) == set(model.labels)
                assert sum(answer["probabilities"].values()) == pytest.approx(1)
            assert quantized_model.size_bytes < float_model.size_bytes
            assert quantized_model.digest != float_model.digest
            assert str(quantized_model.scheme) == "linear:8"
            assert quantized_model.compression.share > 0.9
            saved = quantized_model.save(tmp_path / "small.mlmodel")
            assert saved.stat().st_size == quantized_model.size_bytes
            assert type(quantized_model.mlmodel).__name__ == "MLModel"
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_the_float_model_needs_no_mark(project):
    project.makepyfile(
        test_app="""
        def test_float(float_model, sample_folder):
            assert float_model.labels[0] == "apple"
            assert len(sample_folder.samples) == 72 and sample_folder.labelled
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_the_float_model_runs_once_a_session_over_the_samples(project):
    project.makepyfile(
        test_app="""
        import collections, pytest
        from pytest_quantguard.runtime.portable.engine import PortableEngine

        calls = collections.Counter()
        outputs = PortableEngine.outputs

        def counting(self, inputs):
            calls[id(self)] += 1
            return outputs(self, inputs)

        PortableEngine.outputs = counting

        @pytest.mark.quantized(bits=[8, 7, 6], mode="linear")
        def test_gate(comparison):
            pass

        def test_count(float_model):
            PortableEngine.outputs = outputs
            assert calls[id(float_model.engine)] == 72
            assert sum(calls.values()) == 4 * 72
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=4)


def test_a_project_overrides_model_and_samples(project):
    (project.path / "pytest.ini").write_text("[pytest]\n")
    project.makepyfile(
        test_app="""
        import pathlib, pytest
        from pytest_quantguard import load_model

        @pytest.fixture(scope="session")
        def quantguard_model(pytestconfig):
            return load_model(pytestconfig.rootpath / "model.mlmodel")

        @pytest.fixture
        def quantguard_samples():
            return "photos/apple"

        @pytest.mark.quantized(bits=8, mode="linear")
        def test_gate(comparison):
            assert comparison.top1_agreement.total == 12
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_mark_wins_over_an_overridden_fixture(project):
    project.makepyfile(
        test_app="""
        import pytest

        @pytest.fixture
        def quantguard_model():
            return "absent.mlmodel"

        @pytest.mark.quantized(bits=8, mode="linear", model="model.mlmodel", samples="photos")
        def test_gate(comparison):
            assert comparison.float_model.name == "model.mlmodel"
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_network_with_multi_arrays_is_gated_on_a_list_of_inputs(project, plugin_args):
    import numpy as np
    from coremltools.models import MLModel, datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder

    rng = np.random.default_rng(0)
    builder = NeuralNetworkBuilder([("x", datatypes.Array(64))], [("y", datatypes.Array(8))])
    builder.add_inner_product(
        "dense", rng.normal(size=(8, 64)).astype(np.float32), np.zeros(8, np.float32), 64, 8, True, "x", "y"
    )
    MLModel(builder.spec, skip_model_load=True).save(str(project.path / "arrays.mlmodel"))
    project.makepyfile(
        test_app="""
        import numpy as np, pytest

        @pytest.fixture(scope="session")
        def quantguard_samples():
            rng = np.random.default_rng(1)
            return [{"x": rng.normal(size=64)} for _ in range(10)]

        @pytest.mark.quantized(bits=8, mode="linear", model="arrays.mlmodel")
        def test_gate(comparison, accuracy_snapshot):
            assert comparison.snr("y") > 30
            assert comparison == accuracy_snapshot
        """
    )
    project.runpytest_inprocess("--snapshot-update", *plugin_args).assert_outcomes(passed=1)
    result = project.runpytest_inprocess(*plugin_args)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*SNR*PSNR*", "arrays.mlmodel*dB*dB*passed"])


def test_a_custom_lookup_table_is_a_function_in_the_mark(project):
    project.makepyfile(
        test_app="""
        import numpy as np, pytest

        def halves(bits, weights):
            table = np.linspace(weights.min(), weights.max(), 2 ** bits)
            return table, np.abs(weights.reshape(-1, 1) - table).argmin(axis=1)

        @pytest.mark.quantized(bits=8, mode="custom_lut", lut_function=halves)
        def test_gate(comparison):
            assert comparison.scheme == "custom_lut:8"
            assert comparison.top1_agreement > 0.8
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)


def test_coremltools_prints_nothing_into_the_users_terminal(project):
    project.makepyfile(
        test_app="""
        import pytest
        @pytest.mark.quantized(bits=[8, 4], mode=["linear", "kmeans_lut", "linear_lut"])
        def test_gate(comparison): pass
        """
    )
    result = project.runpytest_subprocess("-s", "-W", "default")
    result.assert_outcomes(passed=6)
    output = result.stdout.str() + result.stderr.str()
    for noise in ("Quantizing", "_MLModelProxy", "scikit-learn", "Optimizing", "Warning", "100%|"):
        assert noise not in output


def test_the_same_without_pytest(project_files, tmp_path):
    import pytest_quantguard as quantguard

    reference = quantguard.load_model(project_files / "model.mlmodel", engine="portable")
    small = quantguard.quantize(reference, bits=6, mode="kmeans_lut")
    comparison = quantguard.compare(reference, small, project_files / "photos")
    assert comparison.scheme == "kmeans_lut:6"
    assert 0.8 < comparison.top1_agreement <= 1
    small.save(tmp_path / "small.mlmodel")
    by_path = quantguard.compare(
        project_files / "model.mlmodel", tmp_path / "small.mlmodel", project_files / "photos", engine="portable"
    )
    assert by_path.rows == comparison.rows
    assert by_path.scheme == ""


def test_models_with_other_labels_cannot_be_compared(project_files):
    import pytest_quantguard as quantguard

    reference = quantguard.load_model(project_files / "model.mlmodel")
    other = quantguard.load_model(small_network(labels=LABELS[::-1]))
    with pytest.raises(quantguard.PredictionError, match="has other labels than the float model"):
        quantguard.compare(reference, other, project_files / "photos")


def test_schemes_that_give_the_same_weights_keep_their_own_names(project):
    project.makepyfile(
        test_app="""
        import pytest

        @pytest.mark.quantized(bits=16, mode=["linear", "kmeans_lut"])
        def test_gate(comparison, request):
            mode = request.node.callspec.id.split("-")[1]
            assert comparison.scheme == f"{mode}:16"
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=2)


def test_the_mark_chooses_layers(project):
    project.makepyfile(
        test_app="""
        import pytest

        @pytest.mark.quantized(bits=8, mode="linear", only_layers=["conv*"])
        def test_gate(quantized_model):
            skipped = [name for name, _, _ in quantized_model.compression.skipped]
            assert any("dense" in name for name in skipped) and not any("conv" in name for name in skipped)

        @pytest.mark.quantized(bits=8, mode="linear", only_layers=["cnov*"])
        def test_misspelt(quantized_model): pass
        """
    )
    result = project.runpytest_inprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*cnov*conv*"])


def test_an_already_quantized_model_can_be_quantized_again_on_request(project):
    import pytest_quantguard

    pytest_quantguard.quantize(project.path / "model.mlmodel", bits=16).save(project.path / "half.mlmodel")
    project.makepyfile(
        test_app="""
        import pytest

        @pytest.mark.quantized(bits=8, mode="linear", model="half.mlmodel", requantize=True)
        def test_gate(comparison):
            assert comparison.top1_agreement > 0.9
        """
    )
    project.runpytest_inprocess().assert_outcomes(passed=1)
