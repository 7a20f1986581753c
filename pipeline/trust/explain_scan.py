"""What in a scan a model's answer rests on, as a map in the scan's own voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.errors import ScanError, nearest
from data_prep.preprocess import PrepRecipe
from data_prep.task import Task
from data_prep.volume import Volume
from pipeline.families.base import Family
from pipeline.trust.explain_grad_cam import grad_cam, has_maps
from pipeline.trust.explain_methods import ExplainError, Method
from pipeline.trust.explain_perturbed import blurred, integrated_gradients, occlusion
from pipeline.trust.explain_score import LogOdds, log_odds, log_odds_net


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the evidence for a class lies, by one method.

    Attributes:
        map: (I, J[, K]) float32 on the voxels of the scan as it was read, 0 where the recipe cut it
            off. Positive: speaks for the class; negative (not for Grad-CAM): against it.
        prepared: (I', J'[, K']) float32, the same on the recipe's grid.
        class_index: Of the class.
        class_name: Of the same.
        probability: That the model gives the class, before any calibration.
        method: Of ``METHODS``.
    """

    map: NDArray[np.float32]
    prepared: NDArray[np.float32]
    class_index: int
    class_name: str
    probability: float
    method: Method

    def peak(self) -> tuple[int, ...] | None:
        """The voxel with the most evidence for the class, the first of equals; None: there is none.

        Grad-CAM of a class that the model is against is often empty.
        """
        if not self.map.max() > 0:
            return None
        return tuple(int(i) for i in np.unravel_index(int(self.map.argmax()), self.map.shape))

    def peak_mm(self, volume: Volume) -> tuple[float, float, float] | None:
        """Where the peak is in the patient, RAS+; None also where the scan states no geometry."""
        peak = self.peak()
        if peak is None or not volume.has_geometry:
            return None
        x, y, z = volume.affine[:3, : len(peak)] @ np.array(peak) + volume.affine[:3, 3]
        return float(x), float(y), float(z)


def methods_of(family: Family[Any]) -> tuple[Method, ...]:
    """The methods that a family has, the default one first.

    Occlusion needs nothing but probabilities. Integrated gradients need something that can be
    differentiated, Grad-CAM also a layer that still knows where things are.
    """
    return _methods(log_odds_net(family), family.scan_shape)


def check_method(family: Family[Any], method: Method) -> None:
    """Refuse a method that a family does not have.

    Raises:
        ExplainError: ``explain.no_such_map``.
    """
    if method not in (has := methods_of(family)):
        raise ExplainError(
            "explain.no_such_map",
            f"family '{family.name}' has no {_WITHOUT[method]}, which method '{method}' needs",
            fix=f"choose a method that it has: {', '.join(has)}",
        )


def class_index(task: Task, name: str) -> int:
    """The number of a class.

    Raises:
        ExplainError: ``explain.unknown_class``.
    """
    if name not in task.class_names:
        names = list(task.class_names)
        raise ExplainError(
            "explain.unknown_class",
            f"the model knows no class '{name}'{nearest(name, names)}",
            fix=f"choose one of: {', '.join(names)}",
        )
    return task.class_names.index(name)


def explain(
    family: Family[Any],
    recipe: PrepRecipe,
    volume: Volume,
    method: Method | None = None,
    target_class: str | None = None,
) -> Explanation:
    """Say where in a scan the evidence for a class lies.

    What is explained is the log-odds of the class (``explain_score``). Nothing is random: the same
    family and scan give the same map. The family is not changed.

    Args:
        family: Fitted.
        recipe: That its training scans were prepared with.
        volume: The scan as it was read.
        method: How; None: the first of ``methods_of(family)``.
        target_class: For which class; None: the most probable one.

    Raises:
        ExplainError: ``explain.no_such_map`` or ``explain.unknown_class``.
        ScanError: As ``PrepRecipe.apply``; ``model.not_finite`` if the model's answer or the map
            is not finite.
    """
    chosen = methods_of(family)[0] if method is None else method
    check_method(family, chosen)
    x = torch.from_numpy(recipe.apply(volume))[None]
    answer = family.predict_proba(family.prepare(x))[0]
    if not np.isfinite(answer).all():
        raise ScanError("model.not_finite", "the model's answer is NaN or infinite")
    index = (
        int(np.argmax(answer)) if target_class is None else class_index(family.task, target_class)
    )
    prepared = _map(family, x, chosen, index)
    if not np.isfinite(prepared).all():
        raise ScanError("model.not_finite", f"the map of method '{chosen}' is NaN or infinite")
    return Explanation(
        map=recipe.project_back(prepared, volume),
        prepared=prepared,
        class_index=index,
        class_name=family.task.class_names[index],
        probability=float(answer[index]),
        method=chosen,
    )


_WITHOUT: Final[dict[Method, str]] = {
    "grad_cam": "layer of a network that knows where things are",
    "integrated_gradients": "network that can be differentiated down to the scan",
    "occlusion": "probabilities",
}


def _methods(net: LogOdds | None, scan_shape: tuple[int, ...]) -> tuple[Method, ...]:
    if net is None:
        return ("occlusion",)
    if has_maps(net, scan_shape):
        return ("grad_cam", "occlusion", "integrated_gradients")
    return ("occlusion", "integrated_gradients")


def _map(family: Family[Any], x: Tensor, method: Method, target: int) -> NDArray[np.float32]:
    """(I', J'[, K']) for a prepared scan (1, C, I', J'[, K'])."""
    if method == "occlusion":

        def score(scans: Tensor) -> NDArray[np.float64]:
            return log_odds(family.predict_proba(family.prepare(scans))[:, target])

        found = occlusion(score, x, blurred(x))
    else:
        net = log_odds_net(family)
        assert net is not None
        device = next(net.parameters()).device
        scan = x.to(device)
        if method == "grad_cam":
            found = grad_cam(net, scan, target)
        else:
            found = integrated_gradients(net, scan, blurred(x).to(device), target)
    return found.cpu().numpy().astype(np.float32)
