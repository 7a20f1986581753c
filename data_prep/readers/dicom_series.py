"""DICOM headers -> scans: which files belong together, and which cannot be a scan.

The policy, in the order in which it is applied:

1. Objects that hold no image (reports, structure sets, segmentations, PDF) are skipped.
2. Copies: files of one SOP Instance UID are the same image; equal bytes count once, different
   bytes make the series unusable.
3. A mosaic and a multi-frame object are scans of their own.
4. The other images are grouped by Series Instance UID, SOP class and patient.
5. Images of a group that place themselves in the patient are stacked; projections (X-ray,
   ultrasound, photographs) without geometry are one scan each.
6. A localizer in a group with other images is left out.
7. Where the others lie on several grids (planes, matrices), each of them a whole stack, each is a
   scan of its own.
8. Where several images lie at each position, the group holds several volumes (time points,
   echoes, diffusion directions): each is a scan of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.uid import UID

from data_prep.errors import ScanError
from data_prep.readers.dicom_header import SliceHeader
from data_prep.readers.dicom_stack import build_stack, check_same_grid, has_geometry, places
from data_prep.readers.dicom_volumes import split_grids, split_volumes
from data_prep.readers.policy import ReadPolicy
from data_prep.readers.source import Rejected, ScanSource, Skipped

_DICOM_ROOT: Final = "1.2.840.10008."  # of every UID that the standard defines (PS3.5 9.1)
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
# Slices of these modalities mean nothing without their place in the stack.
_TOMOGRAPHIC: Final = frozenset(("CT", "MR", "PT"))

# (path, path) -> whether two files hold the same bytes, or the same pixels.
SameContent = Callable[[str, str], bool]


@dataclass
class Grouped:
    """What became of a set of DICOM files."""

    sources: list[ScanSource] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def reject(self, headers: Iterable[SliceHeader], error: ScanError) -> None:
        """Put the files of ``headers`` down as rejected."""
        paths = tuple(dict.fromkeys(header.path for header in headers))
        self.rejected.append(Rejected(paths, error.code, error.message))


def group_files(
    files: Sequence[tuple[SliceHeader, ...]],
    policy: ReadPolicy,
    same_bytes: SameContent,
    same_pixels: SameContent,
) -> Grouped:
    """Group the headers of DICOM files (one tuple a file) into scans.

    ``same_bytes`` and ``same_pixels`` are asked only about files that claim to be one image.
    """
    grouped = Grouped()
    images = [file for file in files if not _is_no_image(file[0], grouped)]
    images, conflicting = _drop_copies(images, same_bytes, grouped)
    groups: dict[tuple[str, ...], list[SliceHeader]] = defaultdict(list)
    for frames in images:
        first = frames[0]
        if first.mosaic:
            grouped.sources.append(_source(frames, ("mosaic",)))
        elif first.frames > 1 or len(frames) > 1:
            _add_multi_frame(frames, policy, grouped)
        else:
            own = "" if first.series_uid else first.path
            groups[(first.series_uid, first.sop_class, first.patient_id, own)].append(first)
    for headers in groups.values():
        clash = [header.sop_instance for header in headers if header.sop_instance in conflicting]
        try:
            if clash:
                raise ScanError(
                    "dicom.duplicate_instance",
                    f"{headers[0].path}: {len(set(clash))} SOP Instance UIDs of its series stand "
                    "in files that differ",
                    fix="remove the wrong copies",
                )
            _add_series(headers, policy, same_pixels, grouped)
        except ScanError as error:
            grouped.reject(headers, error)
    return grouped


def _is_no_image(header: SliceHeader, grouped: Grouped) -> bool:
    """Put down as skipped what is not an image, and as rejected what was damaged within a UID."""
    uid = UID(header.sop_class)
    name = uid.name
    known = name != header.sop_class
    is_image = "Image Storage" in name or "Parametric Map" in name
    is_standard = header.sop_class.startswith(_DICOM_ROOT)
    is_cut_off = bool(header.sop_class) and _DICOM_ROOT.startswith(header.sop_class)
    is_invalid = bool(header.sop_class) and not uid.is_valid
    if not known and (is_standard or is_cut_off or is_invalid):
        shown = "damaged" if is_invalid else f"'{uid}', which is not one of the standard's"
        error = ScanError("dicom.malformed", f"{header.path}: SOP Class UID is {shown}")
        grouped.reject([header], error)
        return True
    if (known and not is_image) or (not known and not header.rows):
        grouped.skipped.append(Skipped(header.path, f"DICOM without an image: {name or 'unknown'}"))
        return True
    return False


def _drop_copies(
    files: list[tuple[SliceHeader, ...]], same_bytes: SameContent, grouped: Grouped
) -> tuple[list[tuple[SliceHeader, ...]], set[str]]:
    """Keep one of files with equal bytes; name the SOP Instance UIDs whose files differ."""
    kept: list[tuple[SliceHeader, ...]] = []
    first: dict[str, str] = {}
    conflicting: set[str] = set()
    for file in files:
        uid, path = file[0].sop_instance, file[0].path
        if uid and uid in first:
            if same_bytes(first[uid], path):
                grouped.skipped.append(Skipped(path, f"an identical copy of {first[uid]}"))
                continue
            conflicting.add(uid)
        first.setdefault(uid, path)
        kept.append(file)
    return kept, conflicting


def _add_multi_frame(frames: tuple[SliceHeader, ...], policy: ReadPolicy, grouped: Grouped) -> None:
    try:
        if len(frames) == frames[0].frames and all(map(has_geometry, frames)):
            check_same_grid(frames)
            volumes = split_volumes(frames)
            for number, volume in enumerate(volumes):
                flags: tuple[str, ...] = ("time_point",) if len(volumes) > 1 else ()
                if len(volume) > 1:
                    flags += build_stack(volume, policy).flags
                item = f"volume/{number}" if len(volumes) > 1 else ""
                grouped.sources.append(_source(volume, flags, item=item))
        elif policy.cine == "refuse":
            raise ScanError(
                "dicom.multi_frame",
                f"{frames[0].path}: {frames[0].frames} frames that do not form a volume",
                fix="set cine: first or middle to take one frame",
            )
        else:
            grouped.sources.append(_source(frames, ("cine_frame",)))
    except ScanError as error:
        grouped.reject(frames, error)


def _add_series(
    headers: list[SliceHeader], policy: ReadPolicy, same_pixels: SameContent, grouped: Grouped
) -> None:
    """Turn the images of one series into sources.

    Raises:
        ScanError: If they cannot be scans.
    """
    capture = headers[0].sop_class.startswith(_SECONDARY_CAPTURE)
    burned_in = any("burned_in_annotation" in header.flags for header in headers)
    if (capture or burned_in) and policy.secondary_capture == "refuse":
        raise ScanError(
            "dicom.secondary_capture", f"{headers[0].path}: an image that may show burned-in text"
        )
    flags = ("secondary_capture",) if capture else ()
    if len(headers) == 1:
        grouped.sources.append(_source(headers, flags))
        return
    astray = [header for header in headers if not has_geometry(header)]
    projections = capture or headers[0].modality not in _TOMOGRAPHIC
    if len(astray) == len(headers) and projections:
        grouped.sources += [_source([header], flags) for header in headers]
        return
    if astray:
        raise _misplaced(astray, len(headers))
    _add_stacks(headers, flags, policy, same_pixels, grouped)


def _misplaced(astray: Sequence[SliceHeader], count: int) -> ScanError:
    """What ails images that do not state their place, of the ``count`` of a series."""
    # Rows and Columns are required (PS3.3 C.7.6.3, Type 1) and come after the position and the
    # orientation: where all of them are gone, the file ends within its header.
    cut = [header for header in astray if not header.rows or not header.columns]
    share = f"in {len(cut or astray)} of the {count} images of the series"
    if cut:
        return ScanError(
            "dicom.malformed",
            f"{cut[0].path}: the file is cut off or damaged: no position, rows or columns, {share}",
            fix="transfer the series again",
        )
    return ScanError(
        "dicom.no_geometry",
        f"{astray[0].path}: no position, orientation or pixel spacing, {share}",
    )


def _add_stacks(
    headers: list[SliceHeader],
    flags: tuple[str, ...],
    policy: ReadPolicy,
    same_pixels: SameContent,
    grouped: Grouped,
) -> None:
    """Stack the images of a series that all state their place.

    Raises:
        ScanError: If they cannot be stacked; then nothing was added.
    """
    scouts = [header for header in headers if "LOCALIZER" in header.image_type]
    skipped: list[Skipped] = []
    if len(scouts) < len(headers):
        headers = [header for header in headers if "LOCALIZER" not in header.image_type]
        skipped = [Skipped(header.path, "a localizer within another series") for header in scouts]
        flags += ("localizer_removed",) if scouts else ()
    grids = split_grids(headers)
    flags += ("split_by_geometry",) if len(grids) > 1 else ()
    found: list[ScanSource] = []
    for grid in grids:
        volumes, copies = _volumes_of(grid, same_pixels)
        seen = flags + (("time_point",) if len(volumes) > 1 else ())
        seen += ("duplicate_dropped",) if copies else ()
        skipped += copies
        for volume in volumes:
            if len(volume) > 1:
                stack = build_stack(volume, policy)
                found.append(_source(stack.slices, (*seen, *stack.flags)))
            else:
                found.append(_source(volume, seen))
    grouped.sources += found
    grouped.skipped += skipped


def _volumes_of(
    grid: Sequence[SliceHeader], same_pixels: SameContent
) -> tuple[Sequence[Sequence[SliceHeader]], list[Skipped]]:
    """The volumes of images on one grid, and the copies that are left out.

    Raises:
        ScanError: As ``check_same_grid``.
    """
    check_same_grid(grid)
    volumes = split_volumes(grid)
    if len(volumes) > 1:
        return volumes, []
    kept, copies = _drop_repeats(grid, same_pixels)
    return [kept], copies


def _drop_repeats(
    headers: Sequence[SliceHeader], same_pixels: SameContent
) -> tuple[list[SliceHeader], list[Skipped]]:
    """Keep one of images with the same position and the same pixels."""
    first: dict[int, SliceHeader] = {}
    kept: list[SliceHeader] = []
    copies: list[Skipped] = []
    for header, place in zip(headers, places(headers), strict=True):
        other = first.setdefault(place, header)
        if other is not header and same_pixels(other.path, header.path):
            copies.append(Skipped(header.path, f"the same slice as {other.path}"))
        else:
            kept.append(header)
    return kept, copies


def _source(headers: Sequence[SliceHeader], flags: tuple[str, ...], item: str = "") -> ScanSource:
    first = headers[0]
    seen = (flag for header in headers for flag in header.flags)
    return ScanSource(
        format="dicom",
        paths=tuple(dict.fromkeys(header.path for header in headers)),
        item=item,
        series_uid=first.series_uid,
        patient_key=first.patient_id,
        header=first.attributes,
        flags=tuple(dict.fromkeys((*flags, *seen))),
    )
