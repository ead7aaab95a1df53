"""A small project in a temporary folder, as a user would have it, and three ways to run it."""

import shutil

import pytest
from balanced_network import balanced_network, photos
from model_makers import LABELS

from pytest_quantguard import load_model

GATE = """
import pytest

@pytest.mark.quantized(bits={bits}, mode="{mode}")
def test_gate(comparison, accuracy_snapshot):
    assert comparison == accuracy_snapshot
"""

SETTINGS = """
[pytest]
quantguard-model = model.mlmodel
quantguard-samples = photos
"""


@pytest.fixture(scope="session")
def libraries():
    """Imports that pytester would forget after an inner run: they take seconds, and some crash when repeated."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import sklearn.cluster  # noqa: F401
    import syrupy.extensions.json  # noqa: F401

    import pytest_quantguard.gate.assertion
    import pytest_quantguard.schemes.quantize
    import pytest_quantguard.workbench  # noqa: F401


@pytest.fixture(scope="session")
def project_files(libraries, tmp_path_factory):
    """A model, and twelve images a label that the model recognises, made once."""
    folder = tmp_path_factory.mktemp("project")
    network = balanced_network()
    network.save(str(folder / "model.mlmodel"))
    model = load_model(network)
    counts = dict.fromkeys(LABELS, 0)
    for index, image in enumerate(photos(2000)):
        label = model.predict({"image": image})["label"]
        if counts[label] < 12:
            counts[label] += 1
            (folder / "photos" / label).mkdir(parents=True, exist_ok=True)
            image.save(folder / "photos" / label / f"{index:04}.png")
    assert set(counts.values()) == {12}
    return folder


@pytest.fixture
def project(pytester, project_files):
    """The project's files in pytester's folder, with settings and without tests."""
    shutil.copytree(project_files, pytester.path, dirs_exist_ok=True)
    pytester.makefile(".ini", pytest=SETTINGS)
    return pytester


@pytest.fixture
def gate(project):
    """Writes a gated test of one scheme; returns the project."""

    def write(bits=8, mode="linear"):
        project.makepyfile(test_app=GATE.format(bits=bits, mode=mode))
        return project

    return write


@pytest.fixture(params=[[], ["-n", "0"], ["-n", "2"]], ids=["plain", "-n 0", "-n 2"])
def plugin_args(request):
    """The three ways to run pytest: without xdist's options, in one process, and with two workers."""
    return request.param
