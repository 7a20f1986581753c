"""Every error a user can meet: a stable code, what was found, and what to do about it.

Codes never change once released: scripts and quarantine reports rely on them.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final


class MedcurveError(Exception):
    """Base of all errors that are answered with a message, never with a traceback.

    Args:
        code: Stable dotted code, for example ``config.unknown_field``.
        message: Which file, scan or field, what was found, what is allowed.
        fix: What the user can do, as an imperative sentence; may be empty.
    """

    exit_code = 2

    def __init__(self, code: str, message: str, *, fix: str = "") -> None:
        super().__init__(code, message, fix)  # all three, so that the error pickles
        self.code = code
        self.message = message
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.message, self.fix))

    def __str__(self) -> str:
        text = f"[{self.code}] {self.message}"
        return f"{text}\n  → {self.fix}" if self.fix else text


def _rebuild(kind: type[MedcurveError], code: str, message: str, fix: str) -> MedcurveError:
    return kind(code, message, fix=fix)


class ConfigError(MedcurveError):
    """A configuration file or command-line value that cannot be used."""


class CohortError(MedcurveError):
    """The cohort as a whole is unusable (labels, splits, leaks): stop before any training."""


class StageError(MedcurveError):
    """A stage's input folder is missing, damaged or not what the stage needs."""


class ScanError(MedcurveError):
    """One scan cannot be read: it is quarantined and the batch goes on.

    Raises:
        KeyError: If ``code`` is not in ``SCAN_CODES`` (a programming error).
    """

    def __init__(self, code: str, message: str, *, fix: str = "") -> None:
        SCAN_CODES[code]  # a code that is not documented must not exist
        super().__init__(code, message, fix=fix)


SCAN_CODES: Final[dict[str, str]] = {
    # any format
    "file.unreadable": "the file cannot be opened or read",
    "file.empty": "the file has no bytes",
    "file.unknown_format": "the content is not DICOM, NIfTI, PNG, JPEG, TIFF or a MedMNIST npz",
    "file.too_large": "the declared size is above the limit",
    "file.not_regular": "a FIFO, socket or device, never opened",
    "file.link_outside": "a link or path that leaves the input folder",
    "file.changed": "the file changed while it was read",
    "file.crashed": "the decoder died or ran out of memory",
    "file.timeout": "the decoder did not finish in time",
    "volume.not_finite": "NaN or infinite voxels",
    "volume.bad_affine": "the affine is singular, not finite or absent",
    "volume.bad_shape": "a zero, negative or unsupported number of voxels or dimensions",
    "volume.wrong_plane": "the image plane is not the one that the recipe asks for",
    "volume.wrong_channels": "the number of channels is not the one that the recipe was fitted on",
    "volume.wrong_ndim": "2D where the recipe was fitted on 3D, or the reverse",
    # DICOM
    "dicom.malformed": "not a well-formed DICOM data set",
    "dicom.no_pixel_data": "no Pixel Data element",
    "dicom.no_transfer_syntax": "no Transfer Syntax UID",
    "dicom.unsupported_transfer_syntax": "no decoder for this Transfer Syntax UID",
    "dicom.pixel_data_length": "Pixel Data is shorter or longer than the header demands",
    "dicom.decode_failed": "the codestream cannot be decoded",
    "dicom.header_mismatch": "the codestream does not have the size that the header states",
    "dicom.bad_rescale": "Rescale Slope or Intercept is zero, NaN or infinite",
    "dicom.bad_palette": "the palette look-up table is damaged",
    "dicom.unsupported_pixels": "a pixel representation that is not supported",
    "dicom.no_geometry": "no position or orientation, so that slices cannot be stacked",
    "dicom.missing_slices": "a gap between slices",
    "dicom.duplicate_slices": "two different images at one position",
    "dicom.mixed_orientation": "slices of one series have different orientations",
    "dicom.mixed_matrix": "slices of one series have different matrix sizes",
    "dicom.uneven_spacing": "slices are not evenly spaced",
    "dicom.gantry_tilt": "slices are sheared by a gantry tilt",
    "dicom.duplicate_instance": "two different files have one SOP Instance UID",
    "dicom.multi_frame": "a cine or other multi-frame object that is not a volume",
    "dicom.mosaic": "a mosaic whose layout is not stated completely",
    "dicom.no_reference": "no SOP, series or study UID, so that no report can refer to it",
    "dicom.secondary_capture": "a screen capture that may hold burned-in text",
    # NIfTI
    "nifti.malformed": "not a well-formed NIfTI file",
    "nifti.truncated": "fewer voxels than the header states, or a damaged gzip stream",
    "nifti.missing_pair": "a .hdr without its .img, or the reverse",
    "nifti.no_geometry": "qform_code and sform_code are both 0",
    "nifti.bad_scaling": "scl_slope or scl_inter is infinite",
    "nifti.unsupported_dtype": "complex, RGB or another voxel type that is not an intensity",
    "nifti.not_a_volume": "four or more dimensions",
    # raster images
    "raster.malformed": "damaged or truncated image file",
    "raster.multi_page": "an animation or several pages",
    "raster.unsupported_mode": "a colour mode that is not supported",
    # npz
    "npz.malformed": "not a MedMNIST npz: an array is missing, of objects or of the wrong shape",
    # the model
    "model.unlike_training": "the scan does not look like the training scans",
    "model.not_finite": "the model's answer for this scan is NaN or infinite",
    # labels
    "label.missing": "the scan has no row in the label table",
}


def nearest(name: str, allowed: list[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest allowed name, or an empty string."""
    close = get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
