"""Published scores: the table is whole, and found under the right name."""

from __future__ import annotations

import pytest

from data_prep.published import published_scores
from data_prep.readers.medmnist_facts import FACTS


@pytest.mark.parametrize("dataset", sorted(FACTS))
def test_every_dataset_has_published_scores(dataset: str) -> None:
    found = published_scores(dataset)
    assert len(found) >= 5
    assert all(0.5 < one.auc <= 1 and 0 < one.accuracy <= 1 and one.source for one in found)
    assert [one.auc for one in found] == sorted((one.auc for one in found), reverse=True)
    assert len({one.method for one in found}) == len(found)


def test_a_rebuilt_dataset_stands_beside_the_official_one() -> None:
    assert published_scores("pneumoniamnist_rebuilt") == published_scores("pneumoniamnist")


def test_known_scores() -> None:
    found = {one.method: (one.auc, one.accuracy) for one in published_scores("breastmnist")}
    assert found["resnet18_28"] == (0.901, 0.863)
    assert "resnet18_224" not in found
    assert published_scores("adrenalmnist3d")[0].method == "resnet18_acs"


def test_nothing_is_published_for_an_unknown_name() -> None:
    assert published_scores("my_scans") == ()
