"""Compressed pixel data for tests, encoded by tools that the readers do not use."""

from __future__ import annotations

import base64
from pathlib import Path

import gdcm
import pydicom
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from scan_files import save

# (row * 37 + column * 101) mod 4096, 16 x 12, encoded by OpenJPH; (1000 + 60 row + 40 column),
# 12 bits, encoded by libjpeg-turbo at quality 98: both by tools that are not used here.
HTJ2K_STREAM = base64.b64decode(
    "/0//UQApQAAAAAAMAAAAEAAAAAAAAAAAAAAADAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB"
    "/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAHwAAf+TwAAmZ/sFB3QA"
    "AMAAE0AAEwDA/gKHdACi/gIHdADAABNAABOA9/0AC3QAUKH+AGNUAMAAFTAABUjEiYmJl+GLdQCkJNLAEICMtgDAACvg"
    "ABXASCQSiUQikd4KenpxAngASARBEOT8AAj2EIHsuQD/2Q=="
)
JPEG_12_BIT_STREAM = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQIBAQEBAQIBAQECAgICAgICAgIDAwQDAwMDAwIC"
    "AwQDAwQEBAQEAgMFBQQEBQQEBAT/wQALDAAQAAwBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAADAsN/8QAIhAAAAMHBQAA"
    "AAAAAAAAAAAAAAsnBAcJCihGYjdSVGNy/9oACAEBAAA/AMovlJi7rTNDeHbvjAIcIbZd1SY79Dd9u9LNgLSEpMXdaZob"
    "w7d8YBDhDbLuqTHfobvt3pZsB//Z"
)


def encapsulated(ds: Dataset, stream: bytes, syntax: str) -> Dataset:
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def lossless_jpeg(folder: Path, ds: Dataset) -> Dataset:
    """JPEG lossless, first-order prediction, as most archives send it; GDCM encodes it."""
    source = save(ds, folder / "native" / "scan.dcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    target = folder / "jpeg.dcm"
    writer.SetFileName(str(target))
    assert writer.Write()
    source.unlink()
    compressed = pydicom.dcmread(target)
    target.unlink()
    assert compressed.file_meta.TransferSyntaxUID == uids.JPEGLosslessSV1
    return compressed
