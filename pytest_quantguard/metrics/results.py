"""What was measured, as plain values: the metrics of a classifier, the rows behind them, and of other outputs."""

from dataclasses import dataclass

from pytest_quantguard.metrics.share import Delta, Share


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
    def delta(self) -> Delta:
        """Quantized minus float; a drop is negative. Its total is the class's own number of samples."""
        return Delta.between(self.float_accuracy, self.quantized_accuracy)


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
    def top1_delta(self) -> Delta:
        """Quantized minus float top-1 accuracy."""
        return Delta.between(self.float_top1, self.quantized_top1)

    @property
    def top5_delta(self) -> Delta | None:
        """Quantized minus float top-5 accuracy; None where there are 5 classes or fewer."""
        if self.float_top5 is None or self.quantized_top5 is None:
            return None
        return Delta.between(self.float_top5, self.quantized_top5)

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
    class_count: int = 0
    """The distinct labels of the model."""


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
