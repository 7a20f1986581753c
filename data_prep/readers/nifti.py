"""NIfTI-1 and NIfTI-2, single file or .hdr with .img, plain or gzip -> Volume.

The gzip stream is read to its end and its CRC checked: libraries that stop at the last voxel
return wrong voxels from a damaged file. Rules for the affine and for scaling follow the NIfTI-1
standard (nifti1.h, "3D image orientation and location in space", methods 1 to 3).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from isal import igzip_lib, isal_zlib
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from data_prep.errors import ScanError
from data_prep.readers.access import read_bytes
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.scaling import finite, rescale
from data_prep.readers.sniff import is_gzip
from data_prep.volume import Affine, Array, Volume

GzipError: Any = igzip_lib.IsalError
# nibabel's header classes carry no types.
Header = Any

# Anything after the last voxel is not part of the image; a little of it is harmless.
_TRAILING_BYTES: Final = 1 << 20
# xyzt_units, low three bits (nifti1.h, NIFTI_UNITS_*): millimetres in one unit.
_MM_PER_UNIT: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
# Two affines that differ by less than this anywhere in the volume are taken as the same.
_SAME_PLACE_MM: Final = 0.1
# No position or voxel size is larger: a kilometre.
_MAX_MM: Final = 1e6
# Cosine between two voxel axes above which the grid is not rectangular (0.06 degrees).
_SHEAR_COSINE: Final = 1e-3


def read_nifti(root: Path, paths: tuple[str, ...], policy: ReadPolicy) -> Volume:
    """Read one NIfTI file, or a (.hdr, .img) pair.

    Returns:
        (1, I, J, K), or (1, I, J) where the third axis has one voxel. The voxel type of the file
        is kept where no scaling is asked for; scaled voxels are float32, or exact integers where
        slope is 1 and intercept a whole number.

    Raises:
        ScanError: ``nifti.*``, ``volume.*`` or ``file.*``.
    """
    name = paths[0]
    data = read_bytes(root, name)
    header = _parse_header(_inflate(data, 1024, name, whole=False), name)
    shape = _shape(header, name)
    dtype = _dtype(header, name)
    offset = int(header["vox_offset"]) if math.isfinite(float(header["vox_offset"])) else -1
    if offset < 0:
        raise ScanError("nifti.malformed", f"{name}: vox_offset is {header['vox_offset']}")
    count = math.prod(shape) * dtype.itemsize
    if count > policy.max_volume_bytes:
        raise ScanError(
            "file.too_large",
            f"{name}: the header declares {shape} {dtype.name} voxels, {count} bytes; "
            f"at most {policy.max_volume_bytes}",
        )
    if len(paths) == 2:
        data, name = read_bytes(root, paths[1]), paths[1]
    body = _inflate(data, offset + count, name, whole=True)
    if len(body) < offset + count:
        raise ScanError(
            "nifti.truncated",
            f"{name}: {len(body) - offset} bytes of voxels; the header demands {count}",
        )
    voxels = np.frombuffer(body, dtype, math.prod(shape), offset).reshape(shape, order="F")
    native = voxels.astype(dtype.newbyteorder("="), copy=False)
    scaled = _scale(native, header, name)
    affine, has_geometry, flags = _affine(header, shape, policy, name)
    if len(body) > offset + count:
        flags = (*flags, "trailing_bytes")
    array, filled = finite(scaled, policy, name)
    return Volume(
        array=(array[:, :, 0] if array.shape[2] == 1 else array)[np.newaxis],
        affine=affine,
        has_geometry=has_geometry,
        flags=(*flags, *filled),
    )


def _inflate(data: bytes, limit: int, name: str, *, whole: bool) -> bytes:
    """Plain bytes of a file; of a gzip stream never more than ``limit`` (and some slack).

    With ``whole`` every member is read to its trailer, which checks CRC-32 and length.
    """
    if not is_gzip(data):
        return data
    parts: list[bytes] = []
    left = limit + (_TRAILING_BYTES if whole else 0)
    rest: bytes = data
    while is_gzip(rest):  # a gzip file may have several members (RFC 1952, 2.2)
        stream = isal_zlib.decompressobj(wbits=31)
        try:
            part = stream.decompress(rest, left + 1)
        except GzipError as error:
            raise ScanError("nifti.truncated", f"{name}: damaged gzip stream ({error})") from None
        parts.append(part)
        left -= len(part)
        if not whole:
            break
        if left < 0:
            raise ScanError(
                "file.too_large",
                f"{name}: the gzip stream holds more than the {limit} bytes that the header states",
            )
        if not stream.eof:
            raise ScanError("nifti.truncated", f"{name}: the gzip stream ends before its trailer")
        rest = stream.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse_header(head: bytes, name: str) -> Header:
    try:
        size = int.from_bytes(head[:4], "little")
        kind: Any = nib.Nifti2Header if size in (540, 0x1C020000) else nib.Nifti1Header
        return kind(head[: kind.template_dtype.itemsize], check=False)
    except (HeaderDataError, WrapStructError, ValueError, KeyError) as error:
        raise ScanError("nifti.malformed", f"{name}: {error}") from None


def _shape(header: Header, name: str) -> tuple[int, int, int]:
    n_dims = int(header["dim"][0])
    if not 1 <= n_dims <= 7:
        raise ScanError("nifti.malformed", f"{name}: dim[0] is {n_dims}; allowed: 1 to 7")
    sizes = [int(v) for v in header["dim"][1 : n_dims + 1]]
    if min(sizes) < 1:
        raise ScanError("volume.bad_shape", f"{name}: the header declares the shape {sizes}")
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 3:
        raise ScanError(
            "nifti.not_a_volume",
            f"{name}: shape {tuple(sizes)}; allowed: three dimensions, or trailing ones of size 1",
            fix="split the file into one file a volume",
        )
    if len(sizes) < 2:
        raise ScanError("volume.bad_shape", f"{name}: shape {tuple(sizes)} is not an image")
    return (sizes[0], sizes[1], sizes[2] if len(sizes) == 3 else 1)


def _dtype(header: Header, name: str) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        code = int(header["datatype"])
        raise ScanError("nifti.unsupported_dtype", f"{name}: unknown datatype {code}") from None
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise ScanError(
            "nifti.unsupported_dtype",
            f"{name}: voxels are {dtype}; allowed: integers and floats of at most 64 bits",
        )
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise ScanError(
            "nifti.malformed",
            f"{name}: bitpix is {int(header['bitpix'])}, but {dtype.name} has {8 * dtype.itemsize}",
        )
    return dtype


def _scale(voxels: Array, header: Header, name: str) -> Array:
    """Apply scl_slope and scl_inter; a slope of 0 or NaN means none (nifti1.h, "data scaling")."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if math.isinf(slope) or math.isinf(inter):
        raise ScanError("nifti.bad_scaling", f"{name}: scl_slope {slope}, scl_inter {inter}")
    if slope == 0 or math.isnan(slope):
        return voxels
    if math.isnan(inter):
        raise ScanError("nifti.bad_scaling", f"{name}: scl_slope is {slope}, scl_inter NaN")
    return rescale(voxels, slope, inter)


def _affine(
    header: Header, shape: tuple[int, int, int], policy: ReadPolicy, name: str
) -> tuple[Affine, bool, tuple[str, ...]]:
    """The sform where its code is set, else the qform: nibabel's rule, and FSL's and SPM's."""
    s_code, q_code = int(header["sform_code"]), int(header["qform_code"])
    flags: list[str] = []
    scale = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 0x07, 1.0)
    if scale != 1:
        flags.append("units_converted")
    if s_code <= 0 and q_code <= 0:
        if policy.nifti_without_geometry == "refuse":
            raise ScanError(
                "nifti.no_geometry",
                f"{name}: qform_code and sform_code are both 0",
                fix="set nifti_without_geometry: accept to read it without orientation",
            )
        sizes = np.abs(header["pixdim"][1:4].astype(np.float64)) * scale
        # nifti1.h, method 1; a voxel size that is not set counts as 1 mm
        sizes = np.where((sizes > 0) & np.isfinite(sizes), sizes, 1.0)
        return np.diag([*sizes, 1.0]), False, (*flags, "no_geometry")
    affine = header.get_sform() if s_code > 0 else _qform(header, name)
    if s_code > 0 and q_code > 0:
        q_affine = _qform(header, name)
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], (1,))).reshape(4, -1)
        if not np.abs((affine - q_affine) @ corners).max() * scale <= _SAME_PLACE_MM:
            flags.append("qform_differs")
    affine = np.asarray(affine, dtype=np.float64).copy()
    affine[:3] *= scale
    if not (np.abs(affine) <= _MAX_MM).all() or not affine[:3, :3].any(axis=0).all():
        raise ScanError(
            "volume.bad_affine", f"{name}: the affine has NaN, an absurd number or a zero column"
        )
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.abs(unit.T @ unit - np.eye(3)).max() > _SHEAR_COSINE:
        flags.append("sheared")
    return affine, True, tuple(flags)


def _qform(header: Header, name: str) -> Affine:
    try:
        affine: Affine = header.get_qform()
    except (HeaderDataError, ValueError) as error:
        raise ScanError("volume.bad_affine", f"{name}: the qform is invalid ({error})") from None
    return affine
