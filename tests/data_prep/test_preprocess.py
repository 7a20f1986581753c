"""The recipe: fitted on training scans, the same bits for everyone who applies it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data_prep import intensity
from data_prep.config import CONFIG_ROOT, parse_config, read_config
from data_prep.errors import CohortError, ConfigError, ScanError, StageError
from data_prep.geometry import crop_or_pad, reorient, resample, resize
from data_prep.intensity_rules import Nyul, TrainingZScore, ZScore
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.volume import Volume

KINDS: list[dict[str, Any]] = [
    {"kind": "unchanged"},
    {"kind": "window", "center_hu": 40, "width_hu": 400},
    {"kind": "z_score", "region": "foreground"},
    {"kind": "training_z_score"},
    {"kind": "min_max", "low": 0, "high": 255},
    {"kind": "percentile"},
    {"kind": "nyul"},
    {"kind": "equalize"},
    {"kind": "clahe"},
    {"kind": "imagenet"},
]


def config(**fields: Any) -> PrepConfig:
    return parse_config({"shape": 8} | fields, PrepConfig, source="test")


def scan(seed: int = 0, shape: tuple[int, ...] = (1, 12, 11, 10), **fields: Any) -> Volume:
    array = np.random.default_rng(seed).integers(0, 256, size=shape).astype(np.int16)
    affine = np.array([[0, -2.0, 0, 9], [1.5, 0, 0, -7], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    return Volume(array, affine, **fields)


@pytest.mark.parametrize("rule", KINDS, ids=lambda rule: str(rule["kind"]))
@pytest.mark.parametrize("shape", [(1, 12, 11, 10), (1, 12, 11), (3, 12, 11)])
def test_every_recipe_gives_one_shape_and_survives_json(
    rule: dict[str, Any], shape: tuple[int, ...]
) -> None:
    channels = 3 if rule["kind"] == "imagenet" else "as stored"
    scans = [scan(seed, shape) for seed in range(3)]
    recipe = PrepRecipe.fit(config(intensity=rule, channels=channels), scans)
    expected = (3 if channels == 3 else shape[0], *(8,) * (len(shape) - 1))
    assert recipe.scan_shape == expected
    copy = PrepRecipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert copy == recipe
    for volume in scans:
        got = recipe.apply(volume)
        assert (got.shape, got.dtype) == (expected, np.float32)
        assert got.flags.c_contiguous
        assert np.isfinite(got).all()
        assert copy.apply(volume).tobytes() == got.tobytes()


@pytest.mark.parametrize("fit", ["resize", "crop_or_pad"])
def test_the_steps_and_their_order(fit: str) -> None:
    recipe = PrepRecipe.fit(
        config(orientation="RAS", spacing_mm=2, fit=fit, intensity={"kind": "z_score"}), [scan()]
    )
    step = resample(reorient(scan(), "RAS"), (2.0, 2.0, 2.0))
    step = resize(step, (8, 8, 8)) if fit == "resize" else crop_or_pad(step, (8, 8, 8))
    assert np.abs(recipe.apply(scan()) - intensity.z_score(step.array)).max() <= 1e-5


def test_one_scan_in_any_of_many_orientations_gives_the_same_voxels() -> None:
    recipe = PrepRecipe.fit(
        config(orientation="RAS", spacing_mm=2, intensity={"kind": "nyul"}), [scan(), scan(1)]
    )
    expected = recipe.apply(scan())
    for code in ("RAS", "LPS", "SAR", "PIL", "AIR"):
        assert np.abs(recipe.apply(reorient(scan(), code)) - expected).max() <= 1e-5


def test_scans_without_geometry_are_taken_as_they_lie() -> None:
    image = scan(shape=(1, 8, 8), has_geometry=False)
    recipe = PrepRecipe.fit(config(orientation="PL"), [image])
    assert np.array_equal(recipe.apply(image), image.array.astype(np.float32))


# --- fitting


def test_training_statistics_are_those_of_all_training_voxels() -> None:
    scans = [Volume(scan(s, (3, 8, 8)).array + 10 * s, np.eye(4)) for s in range(5)]
    recipe = PrepRecipe.fit(config(intensity={"kind": "training_z_score"}), iter(scans))
    stacked = np.stack([volume.array for volume in scans]).astype(np.float64)
    assert recipe.statistics[::2] == pytest.approx(stacked.mean(axis=(0, 2, 3)), rel=1e-12)
    assert recipe.statistics[1::2] == pytest.approx(stacked.std(axis=(0, 2, 3)), rel=1e-12)
    applied = np.stack([recipe.apply(volume) for volume in scans])
    assert np.abs(applied.mean(axis=(0, 2, 3))).max() <= 1e-6
    assert np.abs(applied.std(axis=(0, 2, 3)) - 1).max() <= 1e-6


def test_nyul_landmarks_are_the_mean_of_the_training_scans() -> None:
    scans = [scan(seed, (1, 8, 8)) for seed in range(4)]
    recipe = PrepRecipe.fit(config(intensity={"kind": "nyul"}), scans)
    each = [intensity.nyul_standard(intensity.nyul_landmarks(v.array)) for v in scans]
    assert recipe.statistics == pytest.approx(np.mean(each, axis=0))


def test_fitting_reads_each_scan_once_and_holds_one() -> None:
    alive = 0
    most = 0

    class Counted(Volume):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def stream() -> Any:
        nonlocal alive, most
        for seed in range(30):
            volume = Counted(scan(seed).array, np.eye(4))
            alive += 1
            most = max(most, alive)
            yield volume
            del volume

    PrepRecipe.fit(config(intensity={"kind": "training_z_score"}), stream())
    assert most <= 4  # the first, this one, and what Python has not let go of


def test_nothing_to_fit_reads_one_scan() -> None:
    stream = iter([scan(), scan(1), scan(2)])
    PrepRecipe.fit(config(intensity={"kind": "z_score"}), stream)
    assert len(list(stream)) == 2


def test_scans_that_the_recipe_refuses_do_not_count() -> None:
    rule = config(intensity={"kind": "training_z_score"})
    good = [scan(0, (1, 8, 8)), scan(1, (1, 8, 8))]
    odd = [scan(2, (3, 8, 8)), scan(3, (1, 8, 8, 8))]
    assert PrepRecipe.fit(rule, [good[0], *odd, good[1]]) == PrepRecipe.fit(rule, good)


def test_no_training_scans() -> None:
    with pytest.raises(CohortError) as caught:
        PrepRecipe.fit(config(), [])
    assert caught.value.code == "prep.no_training_scans"
    sagittal = Volume(np.zeros((1, 4, 5)), np.eye(4)[[2, 0, 1, 3]])
    with pytest.raises(CohortError, match="refuses every") as caught:
        PrepRecipe.fit(config(orientation="PL", intensity={"kind": "nyul"}), [sagittal])
    assert caught.value.code == "prep.no_training_scans"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"orientation": "RAS"}, "orientation"),
        ({"spacing_mm": [1, 1, 1]}, "spacing_mm"),
        ({"shape": [8, 8, 8]}, "shape"),
    ],
)
def test_a_config_of_the_other_dimension_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=f"'{field}'") as caught:
        PrepRecipe.fit(config(**fields), [scan(shape=(1, 9, 9))])
    assert caught.value.code == "prep.wrong_ndim"


def test_four_channels_cannot_become_one() -> None:
    with pytest.raises(ConfigError) as caught:
        PrepRecipe.fit(config(channels=1), [scan(shape=(4, 9, 9))])
    assert caught.value.code == "prep.wrong_channels"
    assert PrepRecipe.fit(config(), [scan(shape=(4, 9, 9))]).scan_shape == (4, 8, 8)


# --- applying


def test_a_volume_where_images_were_fitted_is_refused() -> None:
    recipe = PrepRecipe.fit(config(), [scan(shape=(1, 9, 9))])
    with pytest.raises(ScanError, match=r"is 3D.*fitted on 2D") as caught:
        recipe.apply(scan())
    assert caught.value.code == "volume.wrong_ndim"


@pytest.mark.parametrize(("channels", "given"), [("as stored", 3), (1, 2), (3, 4)])
def test_other_channels_are_refused(channels: Any, given: int) -> None:
    recipe = PrepRecipe.fit(config(channels=channels), [scan(shape=(1, 9, 9))])
    with pytest.raises(ScanError, match=f"has {given} channels") as caught:
        recipe.apply(scan(shape=(given, 9, 9)))
    assert caught.value.code == "volume.wrong_channels"


def test_colour_and_grey_become_what_is_asked_for() -> None:
    grey, colour = scan(shape=(1, 8, 8)), scan(shape=(3, 8, 8))
    to_grey = PrepRecipe.fit(config(channels=1), [grey])
    assert np.abs(to_grey.apply(colour) - intensity.to_grey(colour.array)).max() <= 1e-4
    to_colour = PrepRecipe.fit(config(channels=3), [grey])
    assert np.array_equal(to_colour.apply(grey), np.repeat(grey.array, 3, axis=0))
    assert np.array_equal(to_colour.apply(colour), colour.array)


def test_the_input_is_not_written_to() -> None:
    volume = Volume(np.ones((1, 8, 8), dtype=np.float32), np.eye(4))
    before = volume.array.copy()
    got = PrepRecipe.fit(config(intensity={"kind": "z_score"}), [volume]).apply(volume)
    got += 1
    assert np.array_equal(volume.array, before)
    unchanged = PrepRecipe.fit(config(), [volume]).apply(volume)
    unchanged += 1
    assert np.array_equal(volume.array, before)


_DIGEST = """
import hashlib, numpy as np
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.volume import Volume
array = np.random.default_rng(0).integers(-1000, 3000, size=(1, 64, 60, 50)).astype(np.int16)
scans = [Volume(np.asfortranarray(array), np.diag([-1, 1.3, 2, 1]))]
digest = hashlib.sha256()
for kind in ("z_score", "percentile", "nyul", "training_z_score", "equalize", "clahe"):
    config = PrepConfig(orientation="RAS", spacing_mm=1.5, shape=40, intensity={"kind": kind})
    digest.update(PrepRecipe.fit(config, scans).apply(scans[0]).tobytes())
print(digest.hexdigest())
"""


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    digests = []
    for threads in ("1", "4"):
        environment = os.environ | dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads
        )
        done = subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
        )
        digests.append(done.stdout)
    assert digests[0] == digests[1]


# --- configs


@pytest.mark.parametrize(
    "path", sorted((CONFIG_ROOT / "prep").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_config_prepares_a_scan(path: Path) -> None:
    given = read_config(path, PrepConfig)
    two_d = given.orientation in ("PL", "as stored")
    shape: tuple[int, ...] = (1, 40, 36) if two_d else (1, 40, 36, 20)
    recipe = PrepRecipe.fit(given, [scan(seed, shape) for seed in range(2)])
    assert recipe.apply(scan(5, shape)).shape == recipe.scan_shape
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    for promise in ("# For:", "# Run:", "# Expect:"):
        assert promise in header


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (1, 28, 28, 28)])
def test_one_config_serves_medmnist_in_2d_and_3d(shape: tuple[int, ...]) -> None:
    given = read_config(CONFIG_ROOT / "prep" / "medmnist28.yaml", PrepConfig)
    images = [scan(seed, shape, has_geometry=False) for seed in range(3)]
    recipe = PrepRecipe.fit(given, images)
    got: NDArray[np.float32] = np.stack([recipe.apply(image) for image in images])
    assert got.shape[1:] == shape
    assert abs(float(got.mean())) <= 1e-5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"orientation": "RAA"}, "not an orientation"),
        ({"spacing_mm": 0}, "greater than 0"),
        ({"shape": -3}, "greater than 0"),
        ({"fit": "crop"}, "did you mean 'crop_or_pad'"),
        ({"channels": 2}, "channels"),
        ({"intensity": {"kind": "imagenet"}}, "channels: 3"),
        ({"intensity": {"kind": "window", "center_hu": 4}}, "width_hu' is required"),
        ({"intensity": {"kind": "percentile", "lower": 9, "upper": 5}}, "must be below upper"),
        ({"intensity": {"kind": "min_max", "low": 1, "high": 1}}, "must be below high"),
        ({"intensity": {"kind": "z_score", "regoin": "whole"}}, "did you mean 'region'"),
        ({"intensity": {"kind": "zscore"}}, "z_score"),
        ({"spacing": 1}, "did you mean 'spacing_mm'"),
    ],
)
def test_a_wrong_field_is_answered_with_what_is_allowed(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        {},
        "text",
        {"config": {"shape": 8}, "spatial_ndim": 4, "channels": 1},
        {"config": {"shape": 8}, "spatial_ndim": 2, "channels": 1, "statistics": [1.0]},
        {
            "config": {"shape": 8, "intensity": {"kind": "training_z_score"}},
            "spatial_ndim": 2,
            "channels": 3,
            "statistics": [0.0, 1.0],
        },
    ],
)
def test_a_damaged_recipe_is_refused(content: Any) -> None:
    with pytest.raises(StageError) as caught:
        PrepRecipe.from_json(content)
    assert caught.value.code == "prep.bad_recipe"


def test_rules_can_be_given_as_objects() -> None:
    for rule in (ZScore(region="foreground"), TrainingZScore(), Nyul()):
        assert PrepConfig(shape=4, intensity=rule).intensity == rule


@pytest.mark.parametrize("rule", KINDS, ids=lambda rule: str(rule["kind"]))
def test_a_recipe_can_be_asked_what_its_steps_are_worth_and_stays_as_it_is(
    rule: dict[str, Any],
) -> None:
    channels = 3 if rule["kind"] == "imagenet" else "as stored"
    fields = {"orientation": "RAS", "spacing_mm": 2.5, "channels": channels}
    recipe = PrepRecipe.fit(config(intensity=rule, **fields), [scan(seed) for seed in range(3)])
    before = recipe.to_json()
    volume = scan(9)
    grid = resize(resample(reorient(volume, "RAS"), (2.5,) * 3), (8,) * 3).array
    raw = resize(volume, (8,) * 3).array
    for reduced, expected in (
        (recipe.without_intensity(), grid),
        (recipe.shape_only(), raw),
    ):
        assert reduced.scan_shape == recipe.scan_shape
        assert np.allclose(reduced.apply(volume), expected, atol=1e-3)
        assert PrepRecipe.from_json(reduced.to_json()) == reduced
    assert recipe.to_json() == before
