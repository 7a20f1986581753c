"""``predict`` on folders of scans against a MONAI Dataset, DataLoader and fp32 network.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/predict_speed.py [--volumes 200] [--images 2000]

Volumes of 128 x 128 x 64 as .nii.gz, and DICOM images of 512 x 512, made up and written first. Both
sides read them with two processes, turn, shrink (with the same smoothing) and z-score them, and
give them to one network. Ours is all of ``predict``: looking for scans, calibration, shift scores
and tables; theirs is the loop over the loader alone. Processes are started, and have read a scan,
before the clock is; what predict takes with its processes' start is a column of its own. They take
turns; a row shows the medians of the rounds. CPU seconds are those of all processes, and depend
less on what else the machine does. Probabilities are compared before calibration. The last lines
say what a scan's work is made of, each part by itself on one core. The variable is what
``medcurve predict`` sets for itself; here it holds for both sides.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from _batches import model, write_dicoms, write_niftis
from isal import isal_zlib
from monai.data import DataLoader, Dataset, PydicomReader
from monai.transforms import Compose, LoadImage, NormalizeIntensity, Orientation, Resize
from numpy.typing import NDArray

from data_prep.miniature import pixel_digest
from data_prep.readers import discover, read_scan
from data_prep.readers.child_process import ChildProcess
from data_prep.readers.decode_child import Job
from data_prep.readers.sandbox import MEMORY_BYTES, TIMEOUT_S, NewChild
from data_prep.scan_look import look_at
from pipeline.serving.answers import answers, block_scans
from pipeline.serving.inference import predict
from pipeline.serving.package import ModelPackage
from pipeline.serving.prepared import PrepareScan

T = TypeVar("T")
WORKERS = 2
ROUNDS = 3
LABELS = (("L", "R"), ("P", "A"), ("I", "S"))
FAMILY = {"family": "cnn_scratch", "params": {}}
SHARED = {"spacing_mm": None, "fit": "resize", "intensity": {"kind": "z_score"}, "channels": 1}
VOLUMES = SHARED | {"orientation": "RAS", "shape": (64, 64, 32)}
IMAGES = SHARED | {"orientation": "as stored", "shape": (224, 224)}

Probabilities = NDArray[np.float64]


def steps(ndim: int) -> Compose:
    """The recipe in MONAI's words."""
    normal = NormalizeIntensity()
    if ndim == 3:
        resize = Resize((64, 64, 32), mode="trilinear", anti_aliasing=True)
        load = LoadImage(image_only=True, ensure_channel_first=True)
        return Compose([load, Orientation(axcodes="RAS", labels=LABELS), resize, normal])
    reader = PydicomReader(swap_ij=False)
    load = LoadImage(reader=reader, image_only=True, ensure_channel_first=True)
    return Compose([load, Resize((224, 224), mode="bilinear", anti_aliasing=True), normal])


def monai_loader(root: Path, package: ModelPackage) -> DataLoader:
    """Its processes stay alive; the first round starts them."""
    files = [str(path) for path in sorted(root.iterdir())]
    return DataLoader(
        Dataset(files, steps(len(package.card.scan_shape) - 1)),
        batch_size=block_scans(package),
        num_workers=WORKERS,
        persistent_workers=True,
    )


def by_monai(loader: DataLoader, package: ModelPackage) -> Probabilities:
    """Probabilities of every file, in the order of their names."""
    net = package.family.network()
    assert net is not None
    net.eval()
    with torch.no_grad():
        # As most write it: channels first, whatever the family does with them.
        plain = [net(batch.as_tensor().float().contiguous()).softmax(dim=1) for batch in loader]
    return torch.cat(plain).double().numpy()


def by_us(root: Path, package: ModelPackage, new_child: NewChild) -> None:
    """The same, through files and tables."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "out"
        found = predict(package, [root], out, workers=WORKERS, new_child=new_child)
    assert found.ok == found.inputs, found


def ready_child(root: Path, package: ModelPackage) -> ChildProcess:
    """A process that has read a scan, and so has imported what it needs."""
    child, source = ChildProcess(), discover(root, [min(root.iterdir())]).sources[0]
    transform = pickle.dumps(PrepareScan(package.recipe, package.card.training.seen.maybe))
    child.wait_until_ready()
    child.send(Job(root, (source,), transform, package.card.read, MEMORY_BYTES, TIMEOUT_S))
    answer, _ = child.answer(source, TIMEOUT_S)
    assert not isinstance(answer, Exception), answer
    return child


def apart(root: Path, package: ModelPackage, theirs: Probabilities) -> float:
    """Largest difference of a probability before calibration, for the first 40 scans."""
    sources = discover(root).sources[:40]
    volumes = [read_scan(root, source) for source in sources]
    arrays = [package.recipe.apply(volume) for volume in volumes]
    looks = [look_at(v, a) for v, a in zip(volumes, arrays, strict=True)]
    ours = np.stack([answer.raw for answer in answers(package, arrays, looks)])
    return float(np.abs(ours - theirs[: len(ours)]).max())


def timed(work: Callable[[], T]) -> tuple[float, float, T]:
    """Wall seconds, CPU seconds of this process and all under it, and what came out."""
    begin, used = time.monotonic(), _cpu_seconds()
    found = work()
    return time.monotonic() - begin, _cpu_seconds() - used, found


def _cpu_seconds() -> float:
    """Of this process, of its children that ended, and of those that live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = 0.0
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        living += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5)
    return time.process_time() + ended.ru_utime + ended.ru_stime + living


def compare(root: Path, package: ModelPackage, rounds: int) -> str:
    """One row of the table."""
    loader = monai_loader(root, package)
    theirs = by_monai(loader, package)
    seconds = []
    for _ in range(rounds):
        cold = timed(lambda: by_us(root, package, ChildProcess))[0]
        ready = [ready_child(root, package) for _ in range(WORKERS)].pop
        ours = timed(partial(by_us, root, package, ready))
        monai = timed(lambda: by_monai(loader, package))
        seconds.append((ours[0], monai[0], monai[0] / ours[0], monai[1] / ours[1], cold))
    us, monai_s, ratio, cpu, cold = (median(column) for column in zip(*seconds, strict=True))
    count = len(theirs)
    return (
        f"| {count} {root.name} | {count / us:.1f} | {count / cold:.1f} | {count / monai_s:.1f} "
        f"| {ratio:.1f} | {cpu:.1f} | {apart(root, package, theirs):.1e} |"
    )


def parts(root: Path, package: ModelPackage, count: int = 32) -> dict[str, float]:
    """CPU milliseconds a scan of each step, in this process on one core."""
    sources = discover(root).sources[:count]
    spent: dict[str, float] = {}

    def measure(name: str, work: Callable[[], object]) -> None:
        begin = time.process_time()
        work()
        spent[name] = 1000 * (time.process_time() - begin) / len(sources)

    torch.set_num_threads(1)
    contents = [(root / source.paths[0]).read_bytes() for source in sources]
    volumes = [read_scan(root, source) for source in sources]
    arrays = [package.recipe.apply(volume) for volume in volumes]
    looks = [look_at(v, a) for v, a in zip(volumes, arrays, strict=True)]
    list(answers(package, arrays, looks))
    if root.name == "volumes":
        measure("inflate", lambda: [isal_zlib.decompress(data, 31) for data in contents])
    measure("find", lambda: discover(root, [Path(s.paths[0]) for s in sources]))
    measure("read", lambda: [read_scan(root, source) for source in sources])
    measure("digest", lambda: [pixel_digest(volume) for volume in volumes])
    measure("recipe", lambda: [package.recipe.apply(volume) for volume in volumes])
    both = list(zip(volumes, arrays, strict=True))
    measure("look", lambda: [look_at(v, a) for v, a in both])
    measure("model", lambda: list(answers(package, arrays, looks)))
    return spent


def main() -> None:
    """Write the scans, let both sides run, print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    shown: dict[str, dict[str, float]] = {}
    print("| scans | ours/s | ours/s with start | MONAI/s | ratio | CPU ratio | apart |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_niftis(place / "volumes", asked.volumes, (128, 128, 64))
        write_dicoms(place / "images", asked.images, 512)
        for name, prep in (("volumes", VOLUMES), ("images", IMAGES)):
            root, package = place / name, model(place / f"model of {name}", prep, FAMILY)
            print(compare(root, package, asked.rounds), flush=True)
            shown[name] = parts(root, package)
    print("\nCPU milliseconds a scan:", *(f"{n}: {_said(s)}" for n, s in shown.items()), sep="\n")


def _said(spent: dict[str, float]) -> str:
    steps = ("find", "read", "digest", "recipe", "look", "model")
    whole = sum(spent[step] for step in steps)
    shares = ", ".join(f"{s} {spent[s]:.1f} ({spent[s] / whole:.0%})" for s in steps)
    inflate = f"; of reading, inflating is {spent['inflate']:.1f}" if "inflate" in spent else ""
    return shares + inflate


if __name__ == "__main__":
    main()
