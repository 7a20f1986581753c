"""What the decode children cost: reading through one child against reading in this process.

    OMP_NUM_THREADS=1 python benchmarks/decode_pool.py

Clean files of three kinds are read in turn, directly and through ``DecodePool(workers=1)`` (started
beforehand), five times each; the table shows medians of the wall time and their ratio, which is to
stay below 1.15. The last column is the ratio with two children, where the pool pays.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from data_prep.readers import ScanSource, discover, read_scan
from data_prep.readers.sandbox import DecodePool

REPEATS = 5


def write_nifti(folder: Path) -> None:
    """Six volumes of 256 x 256 x 160, int16, gzip: smooth, with noise, as a brain compresses."""
    rng = np.random.default_rng(0)
    grid = np.indices((256, 256, 160)).sum(axis=0)
    for number in range(6):
        voxels = (grid + rng.integers(0, 40, grid.shape)).astype(np.int16)
        image = nib.Nifti1Image(voxels, np.eye(4))
        image.set_sform(np.eye(4), 1)
        nib.save(image, folder / f"{number}.nii.gz")


def write_dicom(folder: Path) -> None:
    """Four CT series of 100 slices of 512 x 512."""
    rng = np.random.default_rng(0)
    for series in range(4):
        uid = generate_uid(entropy_srcs=[f"series {series}"])
        (folder / str(series)).mkdir()
        for number in range(100):
            ds = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
            ds.SOPInstanceUID = generate_uid(entropy_srcs=[f"{series}/{number}"])
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.SeriesInstanceUID, ds.PatientID, ds.Modality = uid, "p", "CT"
            ds.ImagePositionPatient = [0, 0, 1.5 * number]
            ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            ds.PixelSpacing = [0.7, 0.7]
            ds.Rows = ds.Columns = 512
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
            ds.PixelData = rng.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
            ds.save_as(folder / str(series) / f"{number:03d}.dcm", enforce_file_format=True)


def write_png(folder: Path) -> None:
    """300 grey images of 512 x 512."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(512), np.arange(512)) // 5
    for number in range(300):
        pixels = (ramp + rng.integers(0, 30, ramp.shape)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png", compress_level=1)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(root: Path, sources: Sequence[ScanSource]) -> tuple[float, float, float]:
    """Median seconds: in this process, through one child, through two."""

    def direct() -> None:
        for source in sources:
            read_scan(root, source)

    with DecodePool(root, 1) as one, DecodePool(root, 2) as two:

        def through(pool: DecodePool) -> None:
            for _, result in pool.read(sources):
                assert not isinstance(result, Exception), result

        for warm_up in (direct, lambda: through(one), lambda: through(two)):
            warm_up()
        rounds = [
            (seconds(direct), seconds(lambda: through(one)), seconds(lambda: through(two)))
            for _ in range(REPEATS)
        ]
    found = [median(column) for column in zip(*rounds, strict=True)]
    return found[0], found[1], found[2]


def main() -> None:
    """Write the files, read them, print the table."""
    print("files                        direct   one child   ratio   two children   ratio")
    for name, write in (
        ("6 NIfTI", write_nifti),
        ("4 x 100 DICOM", write_dicom),
        ("300 PNG", write_png),
    ):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write(root)
            found = discover(root)
            assert not found.rejected, found.rejected
            direct, one, two = measure(root, found.sources)
        print(
            f"{name:26} {direct:7.2f} s {one:9.2f} s {one / direct:7.2f} {two:12.2f} s "
            f"{two / direct:7.2f}"
        )


if __name__ == "__main__":
    main()
