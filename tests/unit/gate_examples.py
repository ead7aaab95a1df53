"""Comparisons made by hand, for tests of the gate and the reports."""

import hashlib

from pytest_quantguard.comparison import (
    ClassifierMetrics,
    ClassRow,
    Comparison,
    Concentration,
    Flips,
    LabelledMetrics,
    ModelIdentity,
    OutputDistortion,
    SampleRow,
    SampleSet,
)
from pytest_quantguard.metrics.share import Share


def digest_of(text):
    return hashlib.sha256(str(text).encode()).hexdigest()


def sample_set(names=None, preprocessing="center_crop", altered=()):
    names = names or [f"{index % 10}/{index:03}.png" for index in range(450)]
    entries = tuple((name, digest_of(name + ("!" if name in altered else ""))) for name in sorted(names))
    return SampleSet(entries, digest_of(entries), preprocessing)


def sample_row(name="8/008.png", label="8", before="8", after="3", near_tie=False):
    return SampleRow(name, label, before, 0.99, 0.98, after, 0.51, 0.03, near_tie)


def classifier(
    agreement=449,
    total=450,
    top5=450,
    float_right=445,
    right=444,
    worst=-1,
    worst_total=44,
    most=60,
    labelled=True,
    collapsed_onto=None,
    rows=(),
):
    """Metrics of a digits classifier; `worst` is what class 8 lost."""
    classes = (
        ClassRow("7", Share(44, 46), Share(44, 46)),
        ClassRow("8", Share(40, worst_total), Share(40 + worst, worst_total)),
    )
    concentration = Concentration(collapsed_onto or "1", Share(most, total), 10)
    return ClassifierMetrics(
        top1_agreement=Share(agreement, total),
        top5_agreement=None if top5 is None else Share(top5, total),
        flips=Flips(total - agreement, 0, total - agreement, 0) if labelled else Flips(total - agreement),
        float_concentration=Concentration("1", Share(50, total), 10),
        quantized_concentration=concentration,
        collapsed_onto=collapsed_onto,
        mean_divergence=0.01,
        worst_divergence=0.5,
        worst_divergence_sample="8/008.png",
        confidence_lost=0.001,
        near_ties=0,
        labelled=LabelledMetrics(
            Share(float_right, total), Share(right, total), Share(450, 450), Share(450, 450), classes, 1.0
        )
        if labelled
        else None,
        rows=tuple(rows),
        class_count=10,
    )


def distortion(name="image", snr=31.234567, psnr=38.5):
    return OutputDistortion(name, snr, snr - 3, psnr, psnr - 3, "a.png")


def comparison(
    scheme="kmeans_lut:8",
    *,
    size=100_000,
    float_size=400_000,
    model="digits.mlmodel",
    model_digest="f00d" * 16,
    engine="portable",
    versions=None,
    samples=None,
    metrics=None,
    outputs=(),
    notes=(),
    compression=None,
    **classifier_arguments,
):
    """A comparison of a digits classifier; without classes if `metrics` is False."""
    return Comparison(
        scheme=scheme,
        float_model=ModelIdentity(model, model_digest, float_size),
        quantized_model=ModelIdentity("quantized.mlmodel", "beef" * 16, size),
        engine=engine,
        versions={"coremltools": "9.0", "numpy": "2.1.0"} if versions is None else versions,
        samples=samples or sample_set(),
        classifier=None if metrics is False else metrics or classifier(**classifier_arguments),
        outputs=tuple(outputs),
        notes=tuple(notes),
        compression=compression,
    )
