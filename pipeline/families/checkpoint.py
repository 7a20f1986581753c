"""Published weights: found, checked by digest, read without unpickling, put into a network."""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import safetensors.torch
import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from data_prep.config import Config, relative_to_config
from data_prep.download import Checksum, download
from data_prep.errors import MedcurveError, nearest
from data_prep.files import sha256_bytes, sha256_file
from data_prep.progress import Progress, silent

Weights = dict[str, Tensor]

_SHOWN: Final = 3  # names that do not fit, in a message


class CheckpointError(MedcurveError):
    """Weights are not there, not what they should be, or not for this network."""


class OwnCheckpoint(Config):
    """A file of the user's own.

    Attributes:
        path: A PyTorch state dict (``.pth``, ``.pt``) or a ``.safetensors`` file; a relative path
            starts from the folder of the config that it stands in.
        sha256: Of the file, as ``sha256sum`` gives it: a damaged file would load without a word.
    """

    path: Annotated[str, AfterValidator(relative_to_config)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    def locate(self, progress: Progress = silent) -> Path:
        """The file.

        Raises:
            CheckpointError: ``checkpoint.not_found``.
        """
        path = Path(self.path)
        if not path.is_file():
            raise CheckpointError(
                "checkpoint.not_found",
                f"params.checkpoint.path: there is no file {path}",
                fix="give the path of a state dict, absolute or from the config's own folder",
            )
        return path


@dataclass(frozen=True)
class PackagedCheckpoint:
    """A file that a Python package brings along.

    Attributes:
        package: Its import name.
        file: Path inside the package.
        sha256: Of the file.
    """

    package: str
    file: str
    sha256: str

    def locate(self, progress: Progress = silent) -> Path:
        """The file, in the installed package; nothing of the package is run.

        Raises:
            CheckpointError: ``checkpoint.package_missing``.
        """
        found = importlib.util.find_spec(self.package)
        if found is None or found.origin is None:
            name = self.package.replace("_", "-")
            raise CheckpointError(
                "checkpoint.package_missing",
                f"the package '{name}', which holds these weights, is not installed",
                fix=f"pip install {name}, or name a file of your own in params.checkpoint",
            )
        return Path(found.origin).parent / self.file


@dataclass(frozen=True)
class DownloadedCheckpoint:
    """A file that its authors publish.

    Attributes:
        url: Where.
        sha256: Of the file; its first digits where the authors publish no more (by the convention
            of torch.hub they stand in the file's name).
    """

    url: str
    sha256: str

    def locate(self, progress: Progress = silent) -> Path:
        """The file, fetched unless it was before.

        Raises:
            DownloadError: ``download.failed`` or ``download.wrong_sha256``.
        """
        path = weights_folder() / self.url.rpartition("/")[2]
        if path.is_file() and sha256_file(path).startswith(self.sha256):
            return path
        by_hand = (
            f"on a machine with a connection, fetch {self.url} and put it at {path} (its sha256 "
            f"begins with {self.sha256[:8]}); without one, set params.network: efficientnet-lite0, "
            "whose weights are installed"
        )
        checksum = Checksum("sha256", self.sha256, sha256_file)
        download(self.url, path, checksum, by_hand=by_hand, progress=progress)
        return path


Checkpoint = OwnCheckpoint | PackagedCheckpoint | DownloadedCheckpoint


def weights_folder() -> Path:
    """Where downloads are kept: ``$MEDCURVE_DATA/weights``, else ``~/.medcurve/weights``."""
    named = os.environ.get("MEDCURVE_DATA")
    return Path(named) / "weights" if named else Path.home() / ".medcurve" / "weights"


def read_checkpoint(checkpoint: Checkpoint, progress: Progress = silent) -> Weights:
    """Named tensors of a checkpoint; nothing in it is ever run.

    Raises:
        CheckpointError: ``checkpoint.not_found``, ``checkpoint.package_missing``,
            ``checkpoint.wrong_sha256`` or ``checkpoint.unreadable``.
        DownloadError: As ``DownloadedCheckpoint.locate``.
    """
    path = checkpoint.locate(progress)
    data = path.read_bytes()  # once: what is checked is what is read
    _refuse_other(path, sha256_bytes(data), checkpoint.sha256)
    if not data:
        raise _unreadable(path, "the file is empty")
    weights = _tensors(path, _parsed(path, data))
    _refuse_no_numbers(path, weights)
    return weights


def check_files(checkpoint: Checkpoint) -> None:
    """Refuse what lies here and cannot be used, before any work; nothing is downloaded.

    Raises:
        CheckpointError: ``checkpoint.not_found``, ``checkpoint.package_missing`` or
            ``checkpoint.wrong_sha256``.
    """
    if not isinstance(checkpoint, DownloadedCheckpoint):
        path = checkpoint.locate()
        _refuse_other(path, sha256_file(path), checkpoint.sha256)


def _refuse_other(path: Path, found: str, wanted: str) -> None:
    if not found.startswith(wanted):
        raise CheckpointError(
            "checkpoint.wrong_sha256",
            f"{path}: sha256 is {found}, expected {wanted}",
            fix="get the file again; if it is meant to be another one, state its own in "
            "params.checkpoint.sha256",
        )


def _parsed(path: Path, data: bytes) -> object:
    """What the file holds. Whatever its readers raise or warn of is about the file, and torch's own
    words advise to run what is in it.
    """
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load(data)
        except Exception as error:
            raise _unreadable(path, "it is no safetensors file, or not a whole one") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: object = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            return content
    except Exception as error:
        raise _unreadable(
            path,
            "torch.save did not write it, it is not whole, or it holds Python objects besides "
            "tensors",
        ) from error


def _refuse_no_numbers(path: Path, weights: Weights) -> None:
    """Refuse tensors that torch would copy into a network without a word, or not at all."""
    for name, value in weights.items():
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise _unreadable(path, f"'{name}' is a sparse, quantised or empty tensor, not numbers")
        if not bool(value.isfinite().all()):
            raise _unreadable(path, f"'{name}' holds values that are not finite (NaN or infinite)")


def _tensors(path: Path, content: object) -> Weights:
    """A state dict, also where training code has put it under ``state_dict`` or ``model``."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise _unreadable(path, f"it holds a {type(content).__name__}, not a state dict")
    weights = {
        # DataParallel puts "module." before every name.
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    if not weights:
        raise _unreadable(path, "it holds no named tensors")
    return weights


def _unreadable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        "checkpoint.unreadable",
        f"{path}: {reason}",
        fix="save the trained network's state_dict() with torch.save, or as safetensors; files "
        "that hold Python objects are not read, because reading them runs their code",
    )


def load_weights(
    net: nn.Module, weights: Weights, rename: Callable[[str], str], optional: str
) -> None:
    """Put weights into ``net``, every one of them.

    Args:
        net: The network.
        weights: By the names that their authors gave.
        rename: Their names -> ours.
        optional: Pattern of our names that may be absent or of another shape, and are then left as
            they were: the classifier, which is replaced anyway.

    Raises:
        CheckpointError: ``checkpoint.mismatch`` with the names that do not fit and their nearest.
    """
    wanted = net.state_dict()
    given = {
        name: value
        for name, value in ((rename(name), value) for name, value in weights.items())
        if not re.match(optional, name) or (name in wanted and value.shape == wanted[name].shape)
    }
    reshaped = [n for n in given if n in wanted and given[n].shape != wanted[n].shape]
    foreign = [name for name in given if name not in wanted]
    # Batch norm's count of batches is of no use to a trained network, and old files lack it.
    missing = [
        name
        for name in wanted
        if name not in given and not re.match(rf"{optional}|.*num_batches_tracked$", name)
    ]
    count = len(reshaped) + len(foreign) + len(missing)
    if count:
        faults = itertools.chain(
            (
                f"'{n}' has shape {tuple(given[n].shape)}, expected {tuple(wanted[n].shape)}"
                for n in reshaped
            ),
            (f"'{n}' is not in the network{nearest(n, missing)}" for n in foreign),
            (f"'{n}' is missing" for n in missing),
        )
        shown = "; ".join(itertools.islice(faults, _SHOWN))
        more = f"; and {count - _SHOWN} more" if count > _SHOWN else ""
        raise CheckpointError(
            "checkpoint.mismatch",
            f"these weights are not for {type(net).__name__}: {shown}{more}",
            fix="choose the params.network that the weights were trained in",
        )
    net.load_state_dict(given, strict=False)
