"""Maps as small pictures: in the scan's place, in their method's colours, bounded in bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.gallery.explained import MAX_MAP_BYTES, Wanted, map_picture
from pipeline.serving.predictions import Prediction
from pipeline.serving.upright import Plane
from pipeline.trust.explain_scan import Explanation


def explanation(values: np.ndarray, method: str) -> Explanation:
    values = values.astype(np.float32)
    return Explanation(values, values, 0, "healthy", 0.9, method)


def drawn(values: np.ndarray, method: str) -> np.ndarray:
    """(rows, columns, 4) as a browser shows it."""
    plane = Plane(values.astype(np.float32)[np.newaxis], values.shape)
    data = map_picture([plane], explanation(values, method))
    assert len(data) <= MAX_MAP_BYTES
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(int)


def test_evidence_is_opaque_where_it_is_and_in_the_colour_of_its_sign():
    values = np.zeros((20, 20))
    values[:5, :5], values[15:, 15:] = 1.0, -1.0
    shown = drawn(values, "occlusion")
    side = len(shown)
    middle, most, least = shown[side // 2, side // 2], shown[1, 1], shown[-2, -2]
    assert middle[3] == 0
    assert most[3] == least[3] > 150
    assert most[0] > most[2] + 50  # orange speaks for the class
    assert least[2] > least[1]  # violet against it
    one_sided = drawn(values, "grad_cam")
    assert one_sided[1, 1, 3] > 150
    assert one_sided[-2, -2, 3] == 0


@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_maps_of_noise_stay_within_the_bound(method):
    drawn(np.random.default_rng(0).standard_normal((96, 96)), method)


def row(**values) -> Prediction:
    return Prediction("a", ("a",), "ok", **values)


def test_which_scans_are_wanted():
    flagged = Wanted("occlusion", "flagged")
    assert flagged.takes(row(flags=("lossy",)))
    assert not flagged.takes(row())
    unsure = Wanted("occlusion", "unsure")
    assert not unsure.takes(row(within=("lesion",)))
    assert unsure.takes(row(within=()))
    assert unsure.takes(row(within=("healthy", "lesion")))
    assert Wanted("occlusion").takes(row())


def test_of_several_labels_those_with_an_open_one_are_unsure():
    unsure = Wanted("occlusion", "unsure", several=True)
    assert unsure.takes(row(within=("mass", "nodule?")))
    assert not unsure.takes(row(within=("mass", "nodule")))
    assert not unsure.takes(row(within=()))
