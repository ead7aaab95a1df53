"""Distortion: signal-to-noise ratios of outputs that are no class, such as images and feature maps."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pytest_quantguard.metrics.results import OutputDistortion

CAP = 100.0
"""Decibel that equal outputs get: noise below 1e-10 of the signal's power is rounding, and infinity cannot be
averaged or stored. The lowest value is -100."""


class Distortion(NamedTuple):
    """Ratios in decibel, from -100 to 100."""

    snr: float
    psnr: float


def distortion(reference: NDArray[Any], changed: NDArray[Any]) -> Distortion:
    """SNR and PSNR of one output of one sample.

    The signal is the float model's output, the noise its difference to the quantized model's output. SNR is the
    mean squared signal over the mean squared noise, PSNR the largest squared signal over it, both as
    10 * log10. coremltools defines them so in `NoiseMetrics`, with three differences: it subtracts 8-bit images
    in 8 bits, where differences wrap around and a picture that is off by 16 everywhere counts as perfect; it
    adds 1e-7 to the noise, which buries outputs of small values; and it takes the quantized output for the
    signal. Here everything is computed in float64.

    Args:
        reference: the float model's output, of any shape and numeric type.
        changed: the quantized model's output, of the same shape.
    """
    signal = np.asarray(reference, dtype=np.float64).ravel()
    noise = np.asarray(changed, dtype=np.float64).ravel() - signal
    # Scaled to 1 before squaring, so that neither huge nor tiny numbers leave the range of float64.
    scale = max(float(np.abs(signal).max()), float(np.abs(noise).max())) or 1.0
    signal_squared = np.square(signal / scale)
    noise_power = float(np.square(noise / scale).mean())
    return Distortion(
        snr=_decibel(float(signal_squared.mean()), noise_power),
        psnr=_decibel(float(signal_squared.max()), noise_power),
    )


def summarize(name: str, distortions: Sequence[Distortion], sample_names: Sequence[str]) -> OutputDistortion:
    """Mean and worst ratios of one output over all samples; of equally bad samples the first by name is named."""
    worst = min(range(len(sample_names)), key=lambda index: (distortions[index].snr, sample_names[index]))
    return OutputDistortion(
        name=name,
        mean_snr=math.fsum(one.snr for one in distortions) / len(distortions),
        worst_snr=distortions[worst].snr,
        mean_psnr=math.fsum(one.psnr for one in distortions) / len(distortions),
        worst_psnr=min(one.psnr for one in distortions),
        worst_sample=sample_names[worst],
    )


def _decibel(signal: float, noise: float) -> float:
    if noise == 0.0:
        return CAP
    if signal == 0.0:
        return -CAP
    return min(CAP, max(-CAP, 10.0 * (math.log10(signal) - math.log10(noise))))
