"""What the reader may do with input that has no single right reading."""

from __future__ import annotations

from typing import Literal

from data_prep.config import Config


class ReadPolicy(Config):
    """Choices that change what is read; the defaults refuse rather than guess.

    Attributes:
        uneven_spacing: ``resample`` interpolates slices that are not evenly spaced to even ones
            (flag ``uneven_resampled``); ``refuse`` answers ``dicom.uneven_spacing``.
        cine: What to take of a multi-frame object that is not a volume: one frame, or nothing
            (``dicom.multi_frame``).
        secondary_capture: Screen captures, and images that state Burned In Annotation, may show
            text; ``accept`` flags them.
        nifti_without_geometry: A NIfTI file whose qform_code and sform_code are both 0 holds
            voxel sizes only; ``accept`` reads it as having no geometry.
        not_finite: ``fill`` replaces NaN and infinite voxels by the smallest finite one (flag
            ``not_finite_filled``); ``refuse`` answers ``volume.not_finite``.
        max_volume_bytes: Largest decoded scan; a header that declares more is refused before
            any memory is taken.
    """

    uneven_spacing: Literal["refuse", "resample"] = "refuse"
    cine: Literal["refuse", "first", "middle"] = "refuse"
    secondary_capture: Literal["accept", "refuse"] = "accept"
    nifti_without_geometry: Literal["refuse", "accept"] = "refuse"
    not_finite: Literal["refuse", "fill"] = "refuse"
    max_volume_bytes: int = 1 << 30


DEFAULT_POLICY = ReadPolicy()
