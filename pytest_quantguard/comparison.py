"""The comparison: every metric of one scheme on one set of samples, with the rows behind it."""

from dataclasses import dataclass, field

from pytest_quantguard.errors import QuantguardError
from pytest_quantguard.metrics.results import (
    ClassifierMetrics,
    ClassRow,
    Concentration,
    Flips,
    LabelledMetrics,
    OutputDistortion,
    SampleRow,
)
from pytest_quantguard.metrics.share import Delta, Share
from pytest_quantguard.schemes.compression import Compression

__all__ = [
    "ClassRow",
    "ClassifierMetrics",
    "Comparison",
    "Compression",
    "Concentration",
    "Flips",
    "LabelledMetrics",
    "ModelIdentity",
    "OutputDistortion",
    "SampleRow",
    "SampleSet",
]


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


@dataclass(frozen=True, repr=False)
class Comparison:
    """Float model against quantized model over one set of samples.

    The properties read well in plain assertions: `assert comparison.top1_agreement >= 0.98`. A metric that was
    left out, for instance accuracy on samples without labels, raises QuantguardError with the reason.
    """

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

    @property
    def top1_agreement(self) -> Share:
        """How often both models give the same answer."""
        return self._classifier("top1_agreement").top1_agreement

    @property
    def top5_agreement(self) -> Share:
        """How often the float model's answer is among the quantized model's best five."""
        metrics = self._classifier("top5_agreement")
        if metrics.top5_agreement is None:
            raise self._too_few_classes("top5_agreement")
        return metrics.top5_agreement

    @property
    def flips(self) -> Flips:
        """The changed answers, divided into fixed, broken and wrong to another wrong."""
        return self._classifier("flips").flips

    @property
    def flipped_rows(self) -> tuple[SampleRow, ...]:
        """The samples whose answer changed."""
        return tuple(row for row in self._classifier("flipped_rows").rows if row.flipped)

    @property
    def rows(self) -> tuple[SampleRow, ...]:
        """What both models answered for each sample."""
        return self._classifier("rows").rows

    @property
    def float_top1_accuracy(self) -> Share:
        """How often the float model answers the label."""
        return self._labelled("float_top1_accuracy").float_top1

    @property
    def quantized_top1_accuracy(self) -> Share:
        """How often the quantized model answers the label."""
        return self._labelled("quantized_top1_accuracy").quantized_top1

    @property
    def top1_accuracy_delta(self) -> Delta:
        """Quantized minus float top-1 accuracy; a drop is negative."""
        return self._labelled("top1_accuracy_delta").top1_delta

    @property
    def top5_accuracy_delta(self) -> Delta:
        """Quantized minus float top-5 accuracy; a drop is negative."""
        delta = self._labelled("top5_accuracy_delta").top5_delta
        if delta is None:
            raise self._too_few_classes("top5_accuracy_delta")
        return delta

    @property
    def worst_class(self) -> ClassRow:
        """The class that lost most accuracy; ties by label order."""
        return self._labelled("worst_class").worst_class

    @property
    def worst_class_delta(self) -> Delta:
        """The accuracy delta of the class that lost most, out of that class's own samples."""
        return self._labelled("worst_class_delta").worst_class.delta

    @property
    def mcnemar_p(self) -> float:
        """Two-sided exact McNemar test on broken against fixed."""
        return self._labelled("mcnemar_p").mcnemar_p

    @property
    def collapsed_onto(self) -> str | None:
        """The class that a collapsed quantized model nearly always answers; None if it has not collapsed."""
        return self._classifier("collapsed_onto").collapsed_onto

    @property
    def most_predicted_share(self) -> Share:
        """The share of the class that the quantized model answers most."""
        return self._classifier("most_predicted_share").quantized_concentration.most_predicted_share

    @property
    def mean_divergence(self) -> float:
        """Mean Kullback-Leibler divergence of the quantized from the float probabilities, in nats."""
        return self._classifier("mean_divergence").mean_divergence

    @property
    def worst_divergence(self) -> float:
        """The largest Kullback-Leibler divergence of any sample, in nats."""
        return self._classifier("worst_divergence").worst_divergence

    @property
    def confidence_lost(self) -> float:
        """Mean drop of the probability that the float model's own answer gets."""
        return self._classifier("confidence_lost").confidence_lost

    @property
    def size_ratio(self) -> float:
        """The quantized model's size in bytes over the float model's: 0.25 is a quarter of the size."""
        return self.quantized_model.size_bytes / self.float_model.size_bytes

    def snr(self, output: str | None = None) -> float:
        """Mean signal-to-noise ratio of an output in decibel; the name may be left out if there is only one."""
        return self._output("snr", output).mean_snr

    def psnr(self, output: str | None = None) -> float:
        """Mean peak signal-to-noise ratio of an output in decibel; takes the name as `snr` does."""
        return self._output("psnr", output).mean_psnr

    def _classifier(self, metric: str) -> ClassifierMetrics:
        if self.classifier is None:
            raise QuantguardError(
                f"{metric} is left out: {self.float_model.name} is no classifier; use snr() or psnr() instead."
            )
        return self.classifier

    def _labelled(self, metric: str) -> LabelledMetrics:
        labelled = self._classifier(metric).labelled
        if labelled is None:
            raise QuantguardError(
                f"{metric} is left out: not every sample has a label; keep the samples in one folder per label."
            )
        return labelled

    def _too_few_classes(self, metric: str) -> QuantguardError:
        count = self._classifier(metric).class_count
        return QuantguardError(
            f"{metric} is left out: the model has only {count} classes, so it would always be 100 %."
        )

    def _output(self, metric: str, name: str | None) -> OutputDistortion:
        found = [output for output in self.outputs if name in (None, output.name)]
        if len(found) == 1:
            return found[0]
        listed = ", ".join(output.name for output in self.outputs)
        if not listed:
            raise QuantguardError(f"{metric} is left out: {self.float_model.name} has no output but its classes.")
        if name is None:
            raise QuantguardError(f"{metric}() needs the name of an output; use one of: {listed}.")
        raise QuantguardError(f"There is no output {name!r}; use one of: {listed}.")

    def __repr__(self) -> str:
        """One short line, because pytest shows it."""
        names = dict.fromkeys((self.float_model.name, self.quantized_model.name))
        what = f"{' and '.join(names)} {self.scheme}".strip()
        figures = [f"{len(self.samples.entries)} samples"]
        if self.classifier:
            figures.append(f"top-1 agreement {float(self.classifier.top1_agreement):.4f}")
            if self.classifier.labelled:
                figures.append(f"accuracy delta {float(self.classifier.labelled.top1_delta):+.4f}")
        else:
            figures += [f"{output.name} {output.mean_snr:.1f} dB" for output in self.outputs[:2]]
        figures.append(f"size x {self.size_ratio:.2f}")
        return f"<Comparison {what}: {', '.join(figures)}>"
