"""What a Core ML model takes and gives, as plain values read from its `ModelDescription`."""

from dataclasses import dataclass

Label = str | int


@dataclass(frozen=True)
class ImageFeature:
    """An image input or output (specification: `ImageFeatureType`)."""

    name: str
    width: int
    height: int
    color: str
    """`RGB`, `BGR`, `GRAYSCALE` or `GRAYSCALE_FLOAT16`."""
    optional: bool = False


@dataclass(frozen=True)
class ArrayFeature:
    """A multi-array input or output (specification: `ArrayFeatureType`)."""

    name: str
    shape: tuple[int, ...]
    """Empty when the file does not state it."""
    dtype: str
    """A numpy name: `float32`, `float64`, `float16`, `int32`, `int8`."""
    optional: bool = False


@dataclass(frozen=True)
class OtherFeature:
    """Any other input or output: a number, a string, a dictionary, a sequence."""

    name: str
    type_name: str
    """The specification's name: `int64Type`, `doubleType`, `stringType`, `dictionaryType`, `sequenceType`."""
    optional: bool = False
    entries: str = ""
    """`int64` or `string`: the keys of a dictionary, the entries of a sequence; empty for other types."""


Feature = ImageFeature | ArrayFeature | OtherFeature


@dataclass(frozen=True)
class ModelDescription:
    """Inputs, outputs and labels of a model."""

    kind: str
    """The specification's name of the model type: `neuralNetwork`, `neuralNetworkClassifier`, `mlProgram`, ..."""
    specification_version: int
    inputs: tuple[Feature, ...]
    outputs: tuple[Feature, ...]
    labels: tuple[Label, ...] | None = None
    """Class labels in the order of the probabilities; None for a model that is no classifier."""
    label_name: str | None = None
    """Name of the output that holds the predicted label."""
    probabilities_name: str | None = None
    """Name of the output that holds the probabilities by label; None if there is none."""
    states: tuple[str, ...] = ()
    """Names of what a stateful model remembers from one prediction to the next."""

    @property
    def image_inputs(self) -> tuple[ImageFeature, ...]:
        """The inputs that are images."""
        return tuple(feature for feature in self.inputs if isinstance(feature, ImageFeature))
