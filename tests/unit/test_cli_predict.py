import json

import numpy as np
import pytest
from feature_model_makers import new_spec
from model_makers import LABELS, SIZE, small_network, small_program
from network_runner import make_builder
from PIL import Image

from pytest_quantguard import load_model
from pytest_quantguard.cli.main import main
from pytest_quantguard.models.artifact import save_model
from pytest_quantguard.quiet import import_coremltools

ct = import_coremltools()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return save_model(small_network(), tmp_path_factory.mktemp("model") / "small.mlmodel")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (SIZE + 2, SIZE, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def saved(tmp_path):
    """Writes a builder's or a specification's model."""

    def save(spec):
        path = tmp_path / "model.mlmodel"
        path.write_bytes(getattr(spec, "spec", spec).SerializeToString())
        return path

    return save


def printed(capsys, *arguments, code=0):
    found = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert (found, output.err) == (code, "")
    return output.out


def refused(capsys, *arguments, code=2):
    """The error of a command, which prints nothing else."""
    found = main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert (found, output.out) == (code, "")
    assert output.err.startswith("quantguard: error: ")
    assert output.err.count("\n") == 1
    return output.err.removeprefix("quantguard: error: ").strip()


def results(capsys, *arguments):
    return json.loads(printed(capsys, *arguments, "--json"))["results"]


def image_network():
    """x, 3 x 4 x 6, as an image."""
    builder = make_builder({"x": (3, 4, 6)}, ("y", "numbers"))
    builder.add_copy("copy", "x", "y")
    builder.add_copy("copy2", "x", "numbers")
    for feature in (builder.spec.description.input[0], builder.spec.description.output[0]):
        image = feature.type.imageType
        image.height, image.width = 4, 6
        image.colorSpace = ct.proto.FeatureTypes_pb2.ImageFeatureType.ColorSpace.Value("RGB")
    return builder


def test_each_image_has_its_label_and_its_best_labels(network, photos, capsys):
    lines = printed(capsys, "predict", network, photos / "b.png", photos / "a.png", "--top", "2").splitlines()
    model = load_model(network, engine="portable")
    assert len(lines) == 6
    for head, path in ((0, photos / "b.png"), (3, photos / "a.png")):
        upright = Image.open(path).crop((0, 1, SIZE, SIZE + 1))
        answer = model.predict({"image": upright})
        best = sorted(answer["probabilities"].items(), key=lambda entry: -entry[1])[:2]
        assert lines[head] == f"{path}: {answer['label']}"
        assert lines[head + 1 : head + 3] == [f"  {share:6.4f}  {label}" for label, share in best]


def test_a_folder_stands_for_its_images(network, photos, capsys):
    found = results(capsys, "predict", network, photos)
    assert [entry["image"] for entry in found] == [str(photos / "a.png"), str(photos / "b.png")]


def test_json_has_everything_and_never_changes(network, photos, capsys):
    arguments = ("predict", network, photos, "--json", "--top", 100)
    first = printed(capsys, *arguments)
    assert printed(capsys, *arguments) == first
    found = json.loads(first)
    model = load_model(network)
    assert found["schema"] == 1
    assert found["model"] == {"name": "small.mlmodel", "digest": model.digest, "size_bytes": model.size_bytes}
    assert (found["function"], found["precision"], found["crop_and_scale"]) == (None, "float32", "center_crop")
    (probabilities, _) = [entry["probabilities"] for entry in found["results"]]
    assert sorted(entry["label"] for entry in probabilities) == sorted(LABELS)
    assert sum(entry["probability"] for entry in probabilities) == pytest.approx(1, abs=1e-6)
    assert probabilities[0]["label"] == found["results"][0]["label"]


def test_images_are_scaled_as_asked(network, photos, capsys):
    answers = [
        printed(capsys, "predict", network, photos / "a.png", "--crop-and-scale", option)
        for option in ("center_crop", "scale_fit", "scale_fill")
    ]
    assert len(set(answers)) == 3


def test_a_program_is_computed_in_the_precision_asked_for(photos, tmp_path, capsys):
    path = save_model(small_program(), tmp_path / "small.mlpackage")
    answers = [
        printed(capsys, "predict", path, photos / "a.png", "--json", "--precision", precision)
        for precision in ("float32", "float16")
    ]
    shares = [json.loads(answer)["results"][0]["probabilities"][0]["probability"] for answer in answers]
    assert shares[0] != shares[1]
    assert shares[0] == pytest.approx(shares[1], abs=0.01)


def test_images_and_arrays_are_summed_up_and_saved(saved, photos, tmp_path, capsys):
    path, out = saved(image_network()), tmp_path / "out"
    text = printed(capsys, "predict", path, photos / "a.png", "-o", out)
    image, array = out / "a-y.png", out / "a-numbers.npy"
    assert text.splitlines()[1].startswith("  numbers: array 1 x 1 x 3 x 4 x 6 float64, min ")
    assert text.splitlines()[2].startswith("  y: image 4 x 6 x 3 uint8, min ")
    assert text.splitlines()[2].endswith(f" -> {image}")
    pixels = np.asarray(Image.open(image).convert("RGB"))
    assert pixels.transpose(2, 0, 1).tolist() == np.load(array)[0, 0].tolist()
    assert sorted(out.iterdir()) == [array, image]


def test_files_of_equal_names_are_numbered(saved, photos, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "A.png").write_bytes((photos / "b.png").read_bytes())
    printed(capsys, "predict", saved(image_network()), photos / "a.png", other / "A.png", "-o", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["A-2-numbers.npy", "A-2-y.png", "a-numbers.npy", "a-y.png"]


def test_files_are_not_overwritten_unasked(saved, photos, tmp_path, capsys):
    arguments = ("predict", saved(image_network()), photos / "a.png", "-o", tmp_path / "out")
    printed(capsys, *arguments)
    assert "a-numbers.npy exists already; choose another name or give --force." in refused(capsys, *arguments)
    printed(capsys, *arguments, "--force")


def test_an_outputs_name_cannot_lead_out_of_the_folder(saved, photos, tmp_path, capsys):
    network = image_network()
    network.spec.description.output[0].name = "../../y"
    network.spec.neuralNetwork.layers[0].output[0] = "../../y"
    printed(capsys, "predict", saved(network), photos / "a.png", "-o", tmp_path / "deep" / "out")
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == [
        "a-_.._y.png",
        "a-numbers.npy",
    ]


def test_values_that_are_not_finite_are_counted_and_stay_out_of_json(saved, capsys):
    builder = make_builder({"x": (4,)})
    builder.add_unary("log", "x", "y", "log")
    (found,) = results(capsys, "predict", saved(builder), "--input", "x=-1,1,1,1")
    (output,) = found["outputs"]
    assert (output["not_finite"], output["min"], output["max"]) == (1, 0, 0)
    assert "image" not in found


def test_an_array_comes_from_a_numpy_file_or_from_numbers(saved, tmp_path, capsys):
    builder = make_builder({"x": (2, 1, 2)})
    builder.add_copy("copy", "x", "y")
    path = saved(builder)
    np.save(tmp_path / "x.npy", np.array([1, 2, 3, 6], np.float32).reshape(2, 1, 2))
    from_file = printed(capsys, "predict", path, "--input", f"x={tmp_path / 'x.npy'}")
    assert from_file == "  y: array 1 x 1 x 2 x 1 x 2 float64, min 1, mean 3, max 6\n"
    assert printed(capsys, "predict", path, "--input", "x=1,2,3,6") == from_file


def test_numbers_text_and_dictionaries_are_inputs_too(saved, tmp_path, capsys):
    spec = new_spec("dictVectorizer", {"words": "dictionary:string"}, {"vector": ((2,), "DOUBLE")})
    spec.dictVectorizer.stringToIndex.vector.extend(["tea", "cup"])
    path = saved(spec)
    (tmp_path / "words.json").write_text('{"cup": 3}')
    for value in ('{"cup": 3}', tmp_path / "words.json"):
        text = printed(capsys, "predict", path, "--input", f"words={value}")
        assert text == "  vector: array 2 float64, min 0, mean 1.5, max 3\n"


def test_json_of_endless_depth_is_refused(saved, tmp_path, capsys):
    spec = import_coremltools().proto.Model_pb2.Model(specificationVersion=4)
    spec.description.input.add(name="d").type.dictionaryType.stringKeyType.SetInParent()
    spec.description.output.add(name="v").type.multiArrayType.shape.append(1)
    spec.dictVectorizer.stringToIndex.vector.append("a")
    (tmp_path / "d.json").write_text("[" * 100_000)
    value = tmp_path / "d.json"
    assert "is no value for 'd'" in refused(capsys, "predict", saved(spec), "--input", f"d={value}")


def test_a_dictionary_by_numbers_keeps_its_keys(saved, capsys):
    spec = new_spec("dictVectorizer", {"words": "dictionary:int64"}, {"vector": ((2,), "DOUBLE")})
    spec.dictVectorizer.int64ToIndex.vector.extend([7, 9])
    text = printed(capsys, "predict", saved(spec), "--input", 'words={"9": 3}')
    assert text == "  vector: array 2 float64, min 0, mean 1.5, max 3\n"


def test_an_image_may_be_given_by_the_inputs_name(network, photos, capsys):
    (by_name,) = results(capsys, "predict", network, "--input", f"image={photos / 'a.png'}")
    (by_position,) = results(capsys, "predict", network, photos / "a.png")
    assert {"image": str(photos / "a.png"), **by_name} == by_position


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "small.mlmodel misses its input 'image'; name image files, or give --input image=VALUE."),
        (["--input", "x=1"], "--input x=1: write NAME=VALUE with an input of small.mlmodel: image."),
        (["--input", "image"], "--input image: write NAME=VALUE with an input of small.mlmodel: image."),
    ],
)
def test_inputs_that_do_not_fit_the_model_are_named(network, arguments, message, capsys):
    assert refused(capsys, "predict", network, *arguments) == message


def test_an_input_given_twice_is_refused(network, photos, capsys):
    twice = ["--input", f"image={photos / 'a.png'}"] * 2
    assert refused(capsys, "predict", network, *twice) == "--input gives an input twice; give each once."


def test_images_for_a_model_without_images_are_refused(saved, photos, capsys):
    builder = make_builder({"x": (4,)})
    builder.add_copy("copy", "x", "y")
    message = refused(capsys, "predict", saved(builder), photos / "a.png")
    assert message == "model.mlmodel has no image input left to take the images; give --input NAME=VALUE."


def test_a_value_that_is_no_number_is_refused(saved, capsys):
    builder = make_builder({"x": (4,)})
    builder.add_copy("copy", "x", "y")
    assert refused(capsys, "predict", saved(builder), "--input", "x=a") == (
        "--input x=a: 'a' is no value for 'x' (array); give a .npy file, or numbers with commas between them."
    )


def test_a_numpy_file_of_objects_is_never_unpickled(saved, tmp_path, capsys):
    builder = make_builder({"x": (4,)})
    builder.add_copy("copy", "x", "y")
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    message = refused(capsys, "predict", saved(builder), "--input", f"x={tmp_path / 'x.npy'}", code=1)
    assert message.endswith("x.npy cannot be read as an array: it is damaged, or holds no numbers; save it with "
                            "numpy.save.")  # fmt: skip


@pytest.mark.parametrize("header", [b"(4999999999999,), }", b"(4,),              ", b"(4,), {*}          "])
def test_a_numpy_file_with_a_damaged_header_is_refused(saved, header, tmp_path, capsys):
    builder = make_builder({"x": (4,)})
    builder.add_copy("copy", "x", "y")
    np.save(tmp_path / "x.npy", np.zeros(4, np.float32))
    data = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(data.replace(b"(4,), }            ", header))
    assert (tmp_path / "x.npy").read_bytes() != data
    message = refused(capsys, "predict", saved(builder), "--input", f"x={tmp_path / 'x.npy'}", code=1)
    assert "cannot be read as an array" in message


def test_a_missing_image_is_named(network, capsys):
    message = refused(capsys, "predict", network, "missing.png", code=1)
    assert message == "There is no image missing.png; name image files, or folders of images."


def test_a_file_that_is_no_image_is_named(network, capsys):
    message = refused(capsys, "predict", network, network, code=1)
    assert "small.mlmodel' is no image that can be read" in message


def test_names_from_the_file_cannot_drive_the_terminal(photos, tmp_path, capsys):
    labels = ["\x1b[31mred\x1b[0m"] + [f"{index}\n" for index in range(5)]
    path = save_model(small_network(labels=labels), tmp_path / "small.mlmodel")
    text = printed(capsys, "predict", path, photos / "a.png", "--top", 6)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 7
