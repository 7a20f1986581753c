"""Grad-CAM: which places of a late feature map speak for a class (Selvaraju et al. 2017).

MONAI's ``GradCAM`` computes the map of one layer; here it is decided which layer, and the maps of a
network that sees a volume as slabs are put together.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.families.scan_features import ScanFeatures
from pipeline.trust.explain_score import LogOdds

# Places along the longest axis of the map that is looked at. The last map of a small network on a
# small scan has two: a quarter of an image, which says next to nothing of where.
LEAST_PLACES: Final = 4


def has_maps(net: LogOdds, scan_shape: tuple[int, ...]) -> bool:
    """Whether some layer still knows where things are."""
    return bool(_whole_maps(net, torch.zeros(1, *scan_shape)) or _reader(net))


def grad_cam(net: LogOdds, x: Tensor, target: int) -> Tensor:
    """Evidence for class ``target`` by place, at least 0; up to a factor that has no meaning.

    Args:
        net: Without hooks; it keeps MONAI's, so it is not to be used again.
        x: (1, C, I, J[, K]).
        target: Class.

    Returns:
        (I, J[, K]), linearly enlarged from the layer's places.
    """
    found = _reader(net)
    if found is not None:
        name, reader = found
        return _of_images(net, name, reader, x, target)
    cam = _grad_cam(net, target_layer(net, x))
    enlarged: Tensor = cam(x.clone().requires_grad_(), class_idx=target)
    return enlarged[0, 0].detach()


def target_layer(net: LogOdds, x: Tensor) -> str:
    """The last layer, as computed, whose map has at least ``LEAST_PLACES`` along an axis.

    Where none has, the last one with the most. Only layers that are used once count: of one that is
    used again MONAI would keep another call's map than gradient.
    """
    maps = _whole_maps(net, x)
    most = max(max(shape) for _, shape in maps)
    return [name for name, shape in maps if max(shape) >= min(LEAST_PLACES, most)][-1]


def _whole_maps(net: LogOdds, x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """(layer, spatial shape) of all maps of the whole scan, in the order of computation."""
    calls = _calls(net, x)
    names = [name for name, _ in calls]
    return [
        (name, shape[2:])
        for name, shape in calls
        if len(shape) == x.ndim and shape[0] == 1 and max(shape[2:]) > 1 and names.count(name) == 1
    ]


def _calls(net: LogOdds, x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """(layer, shape of what it gave) of each call of each layer, in the order of computation."""
    calls: list[tuple[str, tuple[int, ...]]] = []

    def look(name: str, output: object) -> None:
        if isinstance(output, Tensor):
            calls.append((name, tuple(output.shape)))

    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: look(name, output))
        for name, module in net.net.named_modules(prefix="net")
    ]
    try:
        with torch.enable_grad():  # without gradients some networks go another way
            net(x)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _reader(net: LogOdds) -> tuple[str, ScanFeatures] | None:
    """The part that shows scans to a network as images, which lie elsewhere than the scan."""
    found = ((name, part) for name, part in net.named_modules() if isinstance(part, ScanFeatures))
    return next(found, None)


def _of_images(net: LogOdds, name: str, reader: ScanFeatures, x: Tensor, target: int) -> Tensor:
    """The sum over all images that a scan is shown as, of all sizes and across all axes.

    Of the maps that a classifier pools, those of the last stage that has enough places. All such
    stages together were tried on 2D phantoms: the share of mass in the lesion was smaller.
    """
    shapes = dict(_calls(net, x))
    places = {m: max(shapes[f"{name}.{m.layer}"][2:]) for m in reader.maps}
    least = min(LEAST_PLACES, max(places.values()))
    stage = max(m.stage for m, found in places.items() if found >= least)
    chosen = [m for m in reader.maps if m.stage == stage]
    layers = [f"{name}.{m.layer}" for m in chosen]
    cam = _grad_cam(net, layers)
    total = torch.zeros(x.shape[2:], device=x.device)
    for number, pooled in enumerate(chosen):
        found = cam.compute_map(x.clone().requires_grad_(), class_idx=target, layer_idx=number)
        total += _placed(found.detach(), pooled.axis, x)
    return total


def _placed(found: Tensor, axis: int | None, x: Tensor) -> Tensor:
    """(B, 1, I'[, J', K']) maps of the images of one scan -> (I, J[, K]) in the scan.

    Values are multiplied by the number of places: then the mean over the scan is what the map
    contributes, and maps of all sizes are in one unit.
    """
    if axis is None:  # one image for all channels, or one for each
        whole = found.sum(dim=0, keepdim=True)
    else:
        slabs = min(x.shape[2 + axis], len(found))
        by_slab = found.reshape(slabs, -1, *found.shape[2:]).sum(dim=1)
        whole = by_slab.movedim(0, axis)[None, None]
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    enlarged = functional.interpolate(whole, x.shape[2:], mode=mode)[0, 0]
    return enlarged * whole[0, 0].numel()


def _grad_cam(net: LogOdds, layers: str | list[str]) -> Any:
    # MONAI takes seconds to import, and many who name this method never ask for a map.
    from monai.visualize.class_activation_maps import GradCAM

    # Its annotation knows one layer only; its code takes any number.
    return GradCAM(net, target_layers=layers, postprocessing=_as_it_is)  # type: ignore[arg-type]


def _as_it_is(x: Tensor) -> Tensor:
    return x
