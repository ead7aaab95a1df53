"""Feature engineering: scaler, normalizer, imputer, vectorizers, encoders, mappings, identity."""

import numpy as np
import pytest
from feature_model_makers import new_spec, run
from PIL import Image
from sklearn import preprocessing

from pytest_quantguard.errors import ModelFileError, PredictionError
from pytest_quantguard.runtime.portable.feature_models.engine import FeatureModelEngine

NUMBERS = np.array([[1.5, -2.0, 0.25], [0.0, 4.0, -1.0], [3.0, 3.0, 3.0]])
THREE = ((3,), "DOUBLE")


def transform_spec(kind, taken=THREE, given=THREE):
    spec = new_spec(kind, {"x": taken}, {"y": given})
    return spec, getattr(spec, kind)


def test_a_scaler_shifts_and_scales_each_entry_as_scikit_learn_does():
    fitted = preprocessing.StandardScaler().fit(NUMBERS)
    spec, scaler = transform_spec("scaler")
    scaler.shiftValue.extend(-fitted.mean_)
    scaler.scaleValue.extend(1 / fitted.scale_)
    for row, expected in zip(NUMBERS, fitted.transform(NUMBERS), strict=True):
        np.testing.assert_allclose(run(spec, x=row)["y"], expected, rtol=1e-14)


def test_a_scaler_without_values_changes_nothing_and_with_one_value_each_entry():
    spec, scaler = transform_spec("scaler")
    np.testing.assert_array_equal(run(spec, x=NUMBERS[0])["y"], NUMBERS[0])
    scaler.shiftValue.append(1.0)
    scaler.scaleValue.append(2.0)
    np.testing.assert_array_equal(run(spec, x=NUMBERS[0])["y"], [5.0, -2.0, 2.5])


def test_a_scaled_whole_number_stays_one_or_is_an_error():
    spec, scaler = transform_spec("scaler", "int64", "int64")
    scaler.scaleValue.append(0.5)
    assert run(spec, x=6) == {"y": 3}
    assert type(run(spec, x=np.int32(6))["y"]) is int
    with pytest.raises(PredictionError, match=r"^model\.mlmodel: scaler: output 'y' has no value of its type"):
        run(spec, x=5)


def test_a_scaler_of_another_size_is_refused_when_loaded():
    spec, scaler = transform_spec("scaler")
    scaler.scaleValue.extend([1.0, 2.0])
    with pytest.raises(ModelFileError, match=r"^model\.mlmodel: scaler: 2 values do not fit the 3 entries"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


@pytest.mark.parametrize(("norm", "name"), [("L1", "l1"), ("L2", "l2"), ("LMax", "max")])
def test_a_normalizer_divides_by_its_norm_as_scikit_learn_does(norm, name):
    rows = np.abs(NUMBERS) if norm == "LMax" else NUMBERS
    spec, normalizer = transform_spec("normalizer")
    normalizer.normType = normalizer.NormType.Value(norm)
    for row, expected in zip(rows, preprocessing.normalize(rows, norm=name), strict=True):
        np.testing.assert_allclose(run(spec, x=row)["y"], expected, rtol=1e-14)
    np.testing.assert_array_equal(run(spec, x=np.zeros(3))["y"], np.zeros(3))


def test_the_largest_norm_takes_no_magnitudes():
    spec, _ = transform_spec("normalizer")
    np.testing.assert_array_equal(run(spec, x=[-4.0, 1.0, 2.0])["y"], [-2.0, 0.5, 1.0])


def test_an_imputer_replaces_nan_in_an_array():
    spec, imputer = transform_spec("imputer")
    imputer.imputedDoubleArray.vector.extend([10.0, 20.0, 30.0])
    imputer.replaceDoubleValue = np.nan
    np.testing.assert_array_equal(run(spec, x=[1.0, np.nan, np.nan])["y"], [1.0, 20.0, 30.0])


def test_an_imputer_replaces_one_value_everywhere():
    spec, imputer = transform_spec("imputer")
    imputer.imputedDoubleValue, imputer.replaceDoubleValue = 7.0, -1.0
    np.testing.assert_array_equal(run(spec, x=[-1.0, 2.0, -1.0])["y"], [7.0, 2.0, 7.0])


@pytest.mark.parametrize(
    ("kind", "imputed", "replaced", "given", "expected"),
    [
        ("int64", "Int64", 0, 0, 5),
        ("int64", "Int64", 0, 3, 3),
        ("string", "String", "", "", "none"),
        ("double", "Double", 2.5, 2.5, 1.25),
    ],
)
def test_an_imputer_replaces_single_values(kind, imputed, replaced, given, expected):
    spec, imputer = transform_spec("imputer", kind, kind)
    setattr(imputer, f"imputed{imputed}Value", expected if given == replaced else type(given)())
    setattr(imputer, f"replace{imputed}Value", replaced)
    answer = run(spec, x=given)["y"]
    assert answer == expected
    assert type(answer) is type(expected)


def test_an_imputer_stands_in_for_an_input_that_is_missing():
    spec, imputer = transform_spec("imputer", "dictionary:string?", "dictionary:string")
    imputer.imputedStringDictionary.map["a"] = 2.0
    assert run(spec) == {"y": {"a": 2.0}}
    assert run(spec, x={"a": np.nan, "b": 3.0}) == {"y": {"a": 2.0, "b": 3.0}}


def test_an_extractor_takes_one_entry_as_a_number_and_several_as_an_array():
    spec, extractor = transform_spec("arrayFeatureExtractor", ((2, 2), "FLOAT32"), "double")
    extractor.extractIndex.append(3)
    assert run(spec, x=[[1, 2], [3, 4]]) == {"y": 4.0}
    spec, extractor = transform_spec("arrayFeatureExtractor", ((2, 2), "INT32"), ((2,), "INT32"))
    extractor.extractIndex.extend([2, 0])
    answer = run(spec, x=[[1, 2], [3, 4]])["y"]
    assert answer.dtype == np.int32
    np.testing.assert_array_equal(answer, [3, 1])


def test_an_extractor_beyond_the_array_is_refused_when_loaded():
    spec, extractor = transform_spec("arrayFeatureExtractor", THREE, "double")
    extractor.extractIndex.append(2**63)
    with pytest.raises(ModelFileError, match=rf"^model\.mlmodel: .*: it extracts entry {2**63} of 3; export"):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def vectorizer(**columns):
    spec = new_spec(
        "featureVectorizer", {name: kind for name, (kind, _) in columns.items()}, {"y": ((6,), "DOUBLE")}
    )
    for name, (_, places) in columns.items():
        spec.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=places)
    return spec


def test_a_vectorizer_puts_numbers_arrays_and_dictionaries_in_order():
    spec = vectorizer(a=("double", 1), b=(((2,), "FLOAT32"), 2), c=("dictionary:int64", 3))
    np.testing.assert_array_equal(run(spec, a=1.5, b=[2, 3], c={2: 9})["y"], [1.5, 2.0, 3.0, 0.0, 0.0, 9.0])
    with pytest.raises(
        PredictionError, match=r"^model\.mlmodel: .*: input 'c' has the key 3, but its keys are 0 to 2"
    ):
        run(spec, a=1.5, b=[2, 3], c={3: 9})


@pytest.mark.parametrize("places", [0, 2**60])
def test_a_vectorizer_with_absurd_places_is_refused(places):
    with pytest.raises(
        ModelFileError, match=r"^model\.mlmodel: featureVectorizer: it has 1 columns of \d+ places"
    ):
        FeatureModelEngine(vectorizer(c=("dictionary:int64", places)), None, name="model.mlmodel")


def test_a_one_hot_encoder_marks_the_category():
    spec, encoder = transform_spec("oneHotEncoder", "string", ((3,), "FLOAT32"))
    encoder.stringCategories.vector.extend(["red", "green", "blue"])
    answer = run(spec, x="green")["y"]
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, [0, 1, 0])
    with pytest.raises(
        PredictionError, match=r"^model\.mlmodel: oneHotEncoder: 'pink' is none of its categories\.$"
    ):
        run(spec, x="pink")
    encoder.handleUnknown = encoder.IgnoreUnknown
    np.testing.assert_array_equal(run(spec, x="pink")["y"], [0, 0, 0])


def test_a_sparse_one_hot_encoder_gives_a_dictionary_of_one_place():
    spec, encoder = transform_spec("oneHotEncoder", "int64", "dictionary:int64")
    encoder.int64Categories.vector.extend([40, 50])
    encoder.outputSparse, encoder.handleUnknown = True, encoder.IgnoreUnknown
    assert run(spec, x=50) == {"y": {1: 1.0}}
    assert run(spec, x=60) == {"y": {}}


def test_a_mapping_turns_strings_into_numbers_and_back():
    spec, mapping = transform_spec("categoricalMapping", "string", "int64")
    mapping.stringToInt64Map.map["a"] = 4
    assert run(spec, x="a") == {"y": 4}
    with pytest.raises(PredictionError, match="'b' is none of its categories"):
        run(spec, x="b")
    mapping.int64Value = -1
    assert run(spec, x="b") == {"y": -1}
    spec, mapping = transform_spec("categoricalMapping", "sequence:int64", "sequence:string")
    mapping.int64ToStringMap.map[1] = "one"
    mapping.strValue = "?"
    assert run(spec, x=np.array([1, 2, 1])) == {"y": ["one", "?", "one"]}


def test_a_dictionary_vectorizer_follows_the_example_of_the_specification():
    spec, vectorizer = transform_spec("dictVectorizer", "dictionary:string", ((4,), "DOUBLE"))
    vectorizer.stringToIndex.vector.extend(["a", "c", "b", "z"])
    np.testing.assert_array_equal(run(spec, x={"a": 4, "c": 8})["y"], [4, 8, 0, 0])
    spec, vectorizer = transform_spec("dictVectorizer", "dictionary:int64", "dictionary:int64")
    vectorizer.int64ToIndex.vector.extend([7, 9])
    assert run(spec, x={9: 2.5}) == {"y": {1: 2.5}}
    assert run(spec, x={8: 1.0}) == {"y": {}}


def test_keys_need_not_be_of_the_described_type_as_in_core_ml():
    spec, vectorizer = transform_spec("dictVectorizer", "dictionary:string", ((2,), "DOUBLE"))
    vectorizer.int64ToIndex.vector.extend([7, 9])
    np.testing.assert_array_equal(run(spec, x={np.int64(9): 2.5})["y"], [0, 2.5])


def test_an_identity_gives_back_every_type_as_core_ml_does():
    kinds = {
        "int64": (3, int),
        "double": (2.5, float),
        "string": ("text", str),
        "dictionary:string": ({"a": 1.0}, dict),
        "dictionary:int64": ({4: 1.5}, dict),
        "sequence:string": (["a", "b"], list),
        "sequence:int64": ([1, 2], list),
    }
    for kind, (value, result) in kinds.items():
        spec, _ = transform_spec("identity", kind, kind)
        answer = run(spec, x=value)["y"]
        assert answer == value
        assert type(answer) is result


@pytest.mark.parametrize(
    ("data_type", "dtype"),
    [("FLOAT32", "float32"), ("DOUBLE", "float64"), ("INT32", "int32"), ("FLOAT16", "float32"), ("INT8", "int8")],
)
def test_arrays_of_every_type_come_out_as_coremltools_hands_them_out(data_type, dtype):
    from coremltools.proto.FeatureTypes_pb2 import ArrayFeatureType

    if data_type not in ArrayFeatureType.DESCRIPTOR.enum_values_by_name:
        pytest.skip("this coremltools does not know arrays of int8")
    spec, _ = transform_spec("identity", ((2, 2), data_type), ((2, 2), data_type))
    answer = run(spec, x=[[1, 2], [3, 4]])["y"]
    assert answer.dtype == dtype
    np.testing.assert_array_equal(answer, [[1, 2], [3, 4]])


def test_float16_arrays_are_rounded_to_half_precision():
    spec, _ = transform_spec("identity", ((1,), "FLOAT16"), ((1,), "FLOAT16"))
    assert run(spec, x=[0.1])["y"][0] == np.float16(0.1)


def test_an_identity_of_an_image_gives_the_image():
    spec, _ = transform_spec("identity", (4, 2, "RGB"), (4, 2, "RGB"))
    image = Image.new("RGB", (4, 2), (1, 2, 3))
    assert run(spec, x=image)["y"] is image
    with pytest.raises(PredictionError, match="takes an image of 4 x 2"):
        run(spec, x=Image.new("RGB", (2, 4)))


def test_an_optional_input_that_is_not_given_has_no_output():
    spec, _ = transform_spec("identity", "double?", "double")
    assert run(spec) == {}
    assert run(spec, x=None) == {}


def test_an_optional_input_where_the_format_knows_no_default_is_missed():
    spec, _ = transform_spec("scaler", "double?", "double")
    with pytest.raises(PredictionError, match=r"^model\.mlmodel: scaler: its input 'x' is missing, and it has no"):
        run(spec)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("int64", 1.5, "takes a whole number (1.5 is no whole number)"),
        ("int64", 2**63, "takes a whole number (9223372036854775808 does not fit into 64 bits)"),
        ("int64", float("inf"), "takes a whole number (cannot convert float infinity to integer)"),
        ("double", "1", "takes a number (not str)"),
        ("string", 1, "takes a string (not int)"),
        ("dictionary:int64", {1.5: 2.0}, "a dictionary from whole numbers or strings to numbers (1.5 is no whole"),
        ("dictionary:int64", {1: "2"}, "a dictionary from whole numbers or strings to numbers (not str)"),
        ("dictionary:int64", [1], "a dictionary from whole numbers or strings to numbers (not list)"),
        ("sequence:int64", "12", "as described (not str)"),
        ("sequence:string", [1], "as described (not int)"),
        (((2,), "DOUBLE"), [1, 2, 3], "takes the shape (2,), not (3,)"),
        (((2,), "DOUBLE"), ["a", "b"], "takes an array of float64"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(kind, value, message):
    spec, _ = transform_spec("identity", kind, kind)
    with pytest.raises(PredictionError) as caught:
        run(spec, x=value)
    assert str(caught.value).startswith("model.mlmodel: input 'x' ")
    assert message in str(caught.value)


def test_missing_and_unknown_inputs_are_named():
    spec, _ = transform_spec("identity", "double", "double")
    with pytest.raises(PredictionError, match=r"^model\.mlmodel misses its input 'x'; it has no default\.$"):
        run(spec)
    with pytest.raises(PredictionError, match=r"^model\.mlmodel has no input 'z'; its inputs are: x\.$"):
        run(spec, x=1.0, z=2.0)


def test_a_sequence_keeps_to_its_described_length():
    spec, _ = transform_spec("identity", "sequence:int64", "sequence:int64")
    sizes = spec.description.input[0].type.sequenceType.sizeRange
    sizes.lowerBound, sizes.upperBound = 1, 2
    assert run(spec, x=[1, 2]) == {"y": [1, 2]}
    with pytest.raises(PredictionError, match=r"takes 1 to 2 entries, not 3\.$"):
        run(spec, x=[1, 2, 3])


def test_class_confidences_come_with_a_row_of_ones():
    spec, _ = transform_spec("classConfidenceThresholding", THREE, ((2, 3), "DOUBLE"))
    np.testing.assert_array_equal(run(spec, x=[0.1, 0.2, 0.7])["y"], [[0.1, 0.2, 0.7], [1, 1, 1]])


@pytest.mark.parametrize(
    ("kind", "fill"),
    [
        ("scaler", lambda params: None),
        ("normalizer", lambda params: None),
        ("imputer", lambda params: setattr(params, "imputedDoubleValue", 1.0)),
        ("arrayFeatureExtractor", lambda params: params.extractIndex.append(0)),
        ("oneHotEncoder", lambda params: params.stringCategories.vector.append("a")),
        ("categoricalMapping", lambda params: params.stringToInt64Map.map.update({"a": 1})),
        ("dictVectorizer", lambda params: params.stringToIndex.vector.append("a")),
    ],
)
def test_an_input_of_a_type_that_the_model_cannot_take_is_refused(kind, fill):
    spec, params = transform_spec(kind, (4, 4, "RGB"), "double")
    fill(params)
    with pytest.raises(ModelFileError, match=rf"^model\.mlmodel: {kind}: input 'x' is of type imageType, not "):
        FeatureModelEngine(spec, None, name="model.mlmodel")


def test_values_that_overflow_become_infinite_without_a_warning():
    spec, scaler = transform_spec("scaler", given=((3,), "FLOAT32"))
    scaler.scaleValue.append(1e300)
    assert run(spec, x=[1, 0, -1])["y"].tolist() == [np.inf, 0.0, -np.inf]
