"""A model says of a scan whether it has seen it, in whatever file it comes, and of no other."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from scan_files import ct_dataset, save, slice_pixels

from data_prep.cohort import CohortConfig, SplitConfig
from data_prep.config import parse_config
from data_prep.files import read_json, read_table
from data_prep.ingest import ingest
from data_prep.labelling import (
    find_pseudonym_key,
    patient_pseudonym,
    pseudonym,
    pseudonym_key,
)
from data_prep.manifest import ScanReader, load_manifest
from data_prep.miniature import pixel_digest
from data_prep.prep import prepare_store
from data_prep.preprocess import PrepConfig, PrepRecipe
from data_prep.splits import SPLIT_TABLE, SplitRow, split_cohort
from data_prep.volume import Volume
from pipeline.serving.inference import predict
from pipeline.serving.package import load_package
from pipeline.serving.package_files import MODEL
from pipeline.serving.prepared import PrepareScan
from pipeline.serving.release import release
from pipeline.serving.seen import NONE_SEEN, PATIENT_FLAGS, SEEN_FLAGS, SeenScans
from pipeline.study.config import StudyConfig
from pipeline.study.run import run_study

DIGESTS = st.sets(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=8)


@settings(max_examples=60, deadline=None)
@given(DIGESTS, DIGESTS, DIGESTS)
def test_exactly_the_scans_that_were_seen_are_flagged(
    train: set[str], val: set[str], others: set[str]
) -> None:
    seen = SeenScans.model_validate_json(SeenScans.of(train, val).model_dump_json())
    for digest in train | val | others:
        expected = [digest in train, digest in val]
        flags = [f for f, known in zip(SEEN_FLAGS, expected, strict=True) if known]
        assert list(seen.flags(digest)) == flags


@settings(max_examples=40, deadline=None)
@given(*[st.sets(st.text(min_size=1, max_size=9), max_size=6)] * 3)
def test_patients_are_known_by_their_pseudonym(
    train: set[str], val: set[str], others: set[str]
) -> None:
    key = b"of this site"
    named = [[pseudonym(name, key) for name in names] for names in (train, val)]
    seen = SeenScans.model_validate_json(SeenScans.of(["a"], [], *named).model_dump_json())
    for name in train | val | others:
        expected = [name in train, name in val]
        flags = [f for f, known in zip(PATIENT_FLAGS, expected, strict=True) if known]
        assert list(seen.flags("b", pseudonym(name, key))) == flags
        assert seen.flags("b", pseudonym(name, b"of another")) == ()
        assert seen.flags("b") == ()
        assert seen.flags("a", pseudonym(name, key)) == ("seen_in_training",)  # says as much


@pytest.mark.parametrize("rule", [{"kind": "dicom"}, {"kind": "column"}])
def test_ids_from_a_table_and_from_headers_become_one_name(
    tmp_path: Path, rule: dict[str, str]
) -> None:
    content = {"name": "x", "source": {"kind": "folder", "root": "."}, "prep": "xray"}
    config = parse_config({**content, "patient": rule}, CohortConfig, source="x")
    header = pseudonym("P7", pseudonym_key(tmp_path))
    in_manifest = header if rule["kind"] == "dicom" else "P7"
    assert patient_pseudonym(config, tmp_path)(in_manifest) == header


def test_a_package_does_not_hold_the_digests_of_a_manifest() -> None:
    digest = hashlib.sha256(b"pixels").hexdigest()
    kept = base64.b64decode(SeenScans.of([digest], []).train)
    assert len(kept) == 8
    assert kept.hex() not in digest
    assert kept[::-1].hex() not in digest


def test_a_hundred_thousand_scans_are_about_a_megabyte() -> None:
    seen = SeenScans.of((f"{n:064x}" for n in range(100_000)), [])
    assert len(seen.train) < 1_100_000
    assert seen.flags(f"{99_999:064x}") == ("seen_in_training",)
    assert seen.flags(f"{100_000:064x}") == ()


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"1234567").decode()])
def test_damaged_digests_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        SeenScans(train=text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNG files of 36 patients, brighter for one class, and the model of a study of them."""
    place = tmp_path_factory.mktemp("trained")
    (place / "raw").mkdir()
    rows = ["scan,patient_id,label"]
    rng = np.random.default_rng(0)
    for number in range(36):
        pixels = rng.integers(0, 200, (16, 16)) + 40 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(place / "raw" / f"{number}.png")
        rows.append(f"{number}.png,p{number},{'ab'[number % 2]}")
    (place / "raw" / "labels.csv").write_text("\n".join(rows) + "\n")
    content = {
        "name": "toy",
        "source": {"kind": "folder", "root": str(place / "raw")},
        "prep": "x",
    }
    cohort = parse_config(content, CohortConfig, source="toy.yaml")
    ingest(cohort, place, place / "manifest")
    split_cohort(place / "manifest", SplitConfig(seed=3), place / "splits")
    prep = PrepConfig.model_validate({"shape": (16, 16), "intensity": {"kind": "training_z_score"}})
    reader = ScanReader(place / "raw")
    prepare_store(reader, place / "manifest", place / "splits", prep, place / "store")
    config = StudyConfig(
        families=("linear",), sizes=(12,), subsets=1, seeds=1, resamples=100, metric="auc"
    )
    run_study(config, place / "store", place / "study", cohort="toy")
    names = patient_pseudonym(cohort, place)
    release(place / "study", place / "store", place / "model", pseudonym=names)
    return place


def flags_of(place: Path, out: Path, inputs: list[Path]) -> dict[str, set[str]]:
    predict(load_package(place / "model"), inputs, out)
    with (out / "predictions.csv").open(newline="") as file:
        return {
            row["scan"]: {f for f in row["flags"].split() if f in SEEN_FLAGS}
            for row in csv.DictReader(file)
        }


def test_predicting_training_scans_flags_them(trained: Path, tmp_path: Path) -> None:
    records, _ = load_manifest(trained / "manifest")
    split = {r.scan_id: r.split for r in read_table(trained / "splits" / SPLIT_TABLE, SplitRow)}
    found = flags_of(trained, tmp_path / "out", [trained / "raw"])
    by_split: dict[str, list[set[str]]] = {"train": [], "val": [], "test": []}
    for record in records:
        by_split[split[record.scan_id]].append(found[record.paths[0]])
    assert all(flags == set() for flags in by_split["test"])
    assert all(flags == {"seen_in_validation"} for flags in by_split["val"])
    # the model was fitted on 12 of the training patients: those, and no more, are flagged
    assert sum(flags == {"seen_in_training"} for flags in by_split["train"]) == 12
    assert sum(flags == set() for flags in by_split["train"]) == len(by_split["train"]) - 12
    summary = read_json(tmp_path / "out" / "summary.json")
    assert summary["flagged"]["seen_in_training"] == 12


def test_a_seen_scan_is_known_in_another_file_and_not_when_changed(
    trained: Path, tmp_path: Path
) -> None:
    found = flags_of(trained, tmp_path / "out", [trained / "raw"])
    name = next(scan for scan, flags in found.items() if "seen_in_training" in flags)
    image = Image.open(trained / "raw" / name)
    (tmp_path / "new").mkdir()
    image.save(tmp_path / "new" / "renamed.tiff")
    changed = np.asarray(image).copy()
    changed[0, 0] ^= 1
    Image.fromarray(changed).save(tmp_path / "new" / "changed.png")
    assert flags_of(trained, tmp_path / "again", [tmp_path / "new"]) == {
        "renamed.tiff": {"seen_in_training"},
        "changed.png": set(),
    }


def test_another_scan_of_a_training_patient_is_flagged_where_the_key_lies(
    trained: Path, tmp_path: Path
) -> None:
    records, _ = load_manifest(trained / "manifest")
    seen = flags_of(trained, tmp_path / "out", [trained / "raw"])
    known = next(r.patient_id for r in records if "seen_in_training" in seen[r.paths[0]])
    chosen_by = next(r.patient_id for r in records if "seen_in_validation" in seen[r.paths[0]])
    for name in (known, chosen_by, "somebody"):
        dataset = ct_dataset(series=name, pixels=slice_pixels(rows=16, columns=16))
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        dataset.PatientID = name
        (tmp_path / "new").mkdir(exist_ok=True)
        save(dataset, tmp_path / "new" / f"{name}.dcm")
    key = find_pseudonym_key(trained)
    assert key is not None
    package = load_package(trained / "model")
    here = predict(
        package, [tmp_path / "new"], tmp_path / "here", pseudonym=partial(pseudonym, key=key)
    )
    assert here.ok == 3
    assert {flag: here.flagged.get(flag) for flag in PATIENT_FLAGS} == dict.fromkeys(
        PATIENT_FLAGS, 1
    )
    elsewhere = predict(package, [tmp_path / "new"], tmp_path / "elsewhere")
    assert not set(PATIENT_FLAGS) & set(elsewhere.flagged)


def test_the_digests_are_under_the_packages_seal(trained: Path) -> None:
    content = read_json(trained / "model" / MODEL)
    assert content["training"]["seen"]["train"]
    assert len(base64.b64decode(content["training"]["seen"]["train"])) == 8 * 12


def looked_at(seed: int) -> Volume:
    rng = np.random.default_rng(seed)
    return Volume(rng.normal(size=(1, 9, 8)), np.eye(4), has_geometry=False)


def test_only_a_scan_that_looks_like_one_that_was_seen_is_digested() -> None:
    volumes = [looked_at(seed) for seed in range(12)]
    config = PrepConfig.model_validate({"shape": (6, 5)})
    recipe = PrepRecipe.fit(config, volumes)
    looks = [PrepareScan(recipe, NONE_SEEN)(volume).look for volume in volumes]
    digests = [pixel_digest(volume) for volume in volumes]
    fingerprints = [look.fingerprint for look in looks[:8]]
    seen = SeenScans.of(digests[:5], digests[5:8], looks=fingerprints)
    kept = SeenScans.model_validate_json(seen.model_dump_json())
    prepare = pickle.loads(pickle.dumps(PrepareScan(recipe, kept.maybe)))
    found = [prepare(volume).pixel_sha256 for volume in volumes]
    assert found == digests[:8] + [""] * 4
    assert [bool(kept.flags(digest)) for digest in found] == [True] * 8 + [False] * 4
    assert PrepareScan(recipe, SeenScans().maybe)(volumes[0]).pixel_sha256 == ""


def test_a_package_without_fingerprints_has_every_scan_digested() -> None:
    volumes = [looked_at(seed) for seed in range(3)]
    recipe = PrepRecipe.fit(PrepConfig.model_validate({"shape": (6, 5)}), volumes)
    written = json.loads(SeenScans.of([pixel_digest(volumes[0])], []).model_dump_json())
    del written["looks"]
    old = SeenScans.model_validate(written)
    found = [PrepareScan(recipe, old.maybe)(volume).pixel_sha256 for volume in volumes]
    assert found == [pixel_digest(volume) for volume in volumes]
    assert [bool(old.flags(digest)) for digest in found] == [True, False, False]
