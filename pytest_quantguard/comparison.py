"""The comparison: every metric of one scheme on one set of samples, with the rows behind it."""

from dataclasses import dataclass, field

from pytest_quantguard.metrics.share import Share


@dataclass(frozen=True)
class SampleRow:
    """What both models answered for one sample of a classifier."""

    name: str
    label: str | None
    float_answer: str
    float_confidence: float
    float_margin: float
    """Probability of the answer minus that of the runner-up."""
    quantized_answer: str
    quantized_confidence: float
    quantized_margin: float
    near_tie: bool
    """The float model's own margin is below 1e-4: rounding on another machine may flip it."""

    @property
    def flipped(self) -> bool:
        """Whether the two models answer differently."""
        return self.float_answer != self.quantized_answer


@dataclass(frozen=True)
class ClassRow:
    """Accuracy on the samples of one label."""

    label: str
    float_accuracy: Share
    quantized_accuracy: Share

    @property
    def delta(self) -> float:
        """Quantized minus float; a drop is negative."""
        return (self.quantized_accuracy.count - self.float_accuracy.count) / self.float_accuracy.total


@dataclass(frozen=True)
class Flips:
    """Changed answers; without labels only `total` is known and the others are None."""

    total: int
    fixed: int | None = None
    """Wrong before, right now."""
    broken: int | None = None
    """Right before, wrong now."""
    wrong_to_wrong: int | None = None


@dataclass(frozen=True)
class Concentration:
    """How one model's answers spread over the classes."""

    most_predicted: str
    most_predicted_share: Share
    distinct_classes: int


@dataclass(frozen=True)
class LabelledMetrics:
    """Metrics that need labels."""

    float_top1: Share
    quantized_top1: Share
    float_top5: Share | None
    """None where there are 5 classes or fewer."""
    quantized_top5: Share | None
    classes: tuple[ClassRow, ...]
    """In the order of the model's labels; only labels that have samples."""
    mcnemar_p: float
    """Two-sided exact McNemar test on broken against fixed."""

    @property
    def top1_delta(self) -> float:
        """Quantized minus float top-1 accuracy."""
        return (self.quantized_top1.count - self.float_top1.count) / self.float_top1.total

    @property
    def worst_class(self) -> ClassRow:
        """The class that lost most (smallest delta; ties by label order)."""
        return min(self.classes, key=lambda row: row.delta)


@dataclass(frozen=True)
class ClassifierMetrics:
    """Metrics of a classifier."""

    top1_agreement: Share
    top5_agreement: Share | None
    flips: Flips
    float_concentration: Concentration
    quantized_concentration: Concentration
    collapsed_onto: str | None
    """The class that a collapsed quantized model nearly always answers; None if it has not collapsed."""
    mean_divergence: float
    """Mean Kullback-Leibler divergence of the quantized from the float probabilities, in nats."""
    worst_divergence: float
    worst_divergence_sample: str
    confidence_lost: float
    """Mean drop of the probability that the float model's own answer gets."""
    near_ties: int
    labelled: LabelledMetrics | None
    rows: tuple[SampleRow, ...]


@dataclass(frozen=True)
class OutputDistortion:
    """Signal-to-noise of one output that is no class."""

    name: str
    mean_snr: float
    """Mean over the samples, in decibel; capped at 100 where the outputs are equal."""
    worst_snr: float
    mean_psnr: float
    worst_psnr: float
    worst_sample: str


@dataclass(frozen=True)
class ModelIdentity:
    """What a result says of a model."""

    name: str
    """The file's name, without folders."""
    digest: str
    size_bytes: int


@dataclass(frozen=True)
class SampleSet:
    """Which samples were compared: (name, SHA-256) pairs sorted by name, and the digest over all of them."""

    entries: tuple[tuple[str, str], ...]
    digest: str
    preprocessing: str
    """For instance `center_crop`; empty for samples that are no images."""


@dataclass(frozen=True)
class Compression:
    """Proof that quantization happened."""

    weights: int
    """Weights in the float model."""
    compressed: int
    """Weights that are compressed in the quantized model."""
    bits_per_weight: float
    """Bits that the compressed weights take on average, lookup tables and scales included."""
    skipped: tuple[tuple[str, int, str], ...] = ()
    """(name, weights, reason) of what was left as it is."""

    @property
    def share(self) -> float:
        """The compressed share of all weights."""
        return self.compressed / self.weights if self.weights else 0.0


@dataclass(frozen=True)
class Comparison:
    """Float model against quantized model over one set of samples."""

    scheme: str
    """`str(Scheme)`, for instance `kmeans_lut:8`; empty when a ready-made model was compared."""
    float_model: ModelIdentity
    quantized_model: ModelIdentity
    engine: str
    """`coreml` or `portable`."""
    versions: dict[str, str]
    """Library name to version: engine, coremltools, numpy, pillow."""
    samples: SampleSet
    classifier: ClassifierMetrics | None
    outputs: tuple[OutputDistortion, ...] = ()
    compression: Compression | None = None
    notes: tuple[str, ...] = field(default=())
    """Sentences a reader should know: metrics left out and why, too few samples, and the like."""
