"""Files and folders become scans, each named once, and inputs and outputs never overlap."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.cohort import CohortConfig
from data_prep.ingest import ingest
from data_prep.readers.policy import DEFAULT_POLICY
from data_prep.readers.source import Found, Rejected, ScanSource, Skipped
from pipeline.serving import inputs as module
from pipeline.serving.inputs import InputError, ListedPath, find_inputs, read_list, readable
from pipeline.serving.rows import RowScorer


def nifti(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((3, 3, 3), value, np.int16), np.eye(4)), path)
    return path


def names(*paths: Path, out: Path) -> list[str]:
    return [
        scan.name for folder in find_inputs(paths, out, DEFAULT_POLICY) for scan in folder.scans
    ]


def refusal(*paths: Path, out: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        find_inputs(paths, out, DEFAULT_POLICY)
    return caught.value


def test_a_folder_is_searched_and_names_are_relative_to_it(tmp_path):
    nifti(tmp_path / "in" / "b" / "two.nii.gz")
    nifti(tmp_path / "in" / "one.nii")
    assert names(tmp_path / "in", out=tmp_path / "out") == ["b/two.nii.gz", "one.nii"]


def test_a_single_file_is_named_by_itself(tmp_path):
    nifti(tmp_path / "in" / "other.nii")
    one = nifti(tmp_path / "in" / "one.nii")
    assert names(one, out=tmp_path / "out") == ["one.nii"]


def test_several_inputs_keep_their_folders_apart(tmp_path):
    nifti(tmp_path / "x" / "scan.nii")
    nifti(tmp_path / "y" / "deep" / "scan.nii")
    lone = nifti(tmp_path / "lone.nii")
    found = names(tmp_path / "y", tmp_path / "x", lone, out=tmp_path / "out")
    assert sorted(found) == sorted([f"{tmp_path.name}/lone.nii", "x/scan.nii", "y/deep/scan.nii"])


def test_a_name_does_not_depend_on_what_else_is_given(tmp_path):
    for place in ("one/x", "two/deep/y", "three/z"):
        nifti(tmp_path / place / "scan.nii")
    x, y, z = (tmp_path / place for place in ("one/x", "two/deep/y", "three/z"))
    for others in ([y], [z], [y, z]):
        assert "x/scan.nii" in names(x, *others, out=tmp_path / "out")


@given(
    st.sets(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6
    )
)
@settings(deadline=None, max_examples=25)
def test_no_two_scans_have_one_name(tmp_path_factory, places):
    """Folders of few names at all depths, some in others, each with a scan."""
    root = tmp_path_factory.mktemp("in")
    folders = [root.joinpath(*place) for place in places]
    for folder in folders:
        nifti(folder / "scan.nii")
    found = names(*folders, out=root.with_name("out"))
    assert len(set(found)) == len(found) == len(folders)


def test_what_is_given_twice_counts_once(tmp_path, monkeypatch):
    file = nifti(tmp_path / "in" / "sub" / "scan.nii")
    monkeypatch.chdir(tmp_path)
    again = (tmp_path / "in", tmp_path / "in" / "sub", file, file, Path("in/../in"))
    assert names(*again, out=tmp_path / "out") == ["sub/scan.nii"]


def test_files_of_one_folder_are_looked_at_together(tmp_path):
    files = [nifti(tmp_path / "in" / f"{n}.nii") for n in range(3)]
    nifti(tmp_path / "in" / "not-asked-for.nii")
    folders = find_inputs(files, tmp_path / "out", DEFAULT_POLICY)
    assert len(folders) == 1
    assert [scan.name for scan in folders[0].scans] == ["0.nii", "1.nii", "2.nii"]


def test_files_of_many_folders_are_read_by_one_pool(tmp_path):
    files = [nifti(tmp_path / "in" / f"{n}" / "scan.nii") for n in range(3)]
    (folder,) = find_inputs(files, tmp_path / "out", DEFAULT_POLICY)
    assert [scan.name for scan in folder.scans] == [f"{n}/scan.nii" for n in range(3)]
    assert folder.root == tmp_path / "in"


@given(
    st.lists(
        st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name),
        min_size=2,
        unique=True,
    )
)
def test_a_list_with_nul_holds_any_name(found):
    listed = read_list(b"\0".join(found) + b"\0")
    assert [os.fsencode(item.path) for item in listed] == [
        os.fsencode(Path(os.fsdecode(n))) for n in found
    ]
    assert [item.line for item in listed] == list(range(1, len(found) + 1))


@pytest.mark.parametrize("content", [b"a b\n\nc\n", b"a b\r\n\r\nc"])
def test_a_list_has_a_path_a_line(content):
    assert read_list(content) == [ListedPath(Path("a b"), 1), ListedPath(Path("c"), 3)]


def test_what_a_list_names_and_is_not_there_is_rejected_with_its_line(tmp_path):
    there = nifti(tmp_path / "in" / "a.nii")
    content = f"{there}\n{tmp_path / 'in' / 'gone.nii'}\n{there}\n{tmp_path / 'in' / 'gone.nii'}\n"
    listed = read_list(content.encode())
    found = find_inputs([], tmp_path / "out", DEFAULT_POLICY, listed)
    assert [scan.name for folder in found for scan in folder.scans] == ["a.nii"]
    (lost,) = [item for folder in found for item in folder.rejected]
    assert lost.rejected.code == "file.unreadable"
    assert "gone.nii: does not exist (line 2 of the list)" in lost.rejected.reason


def test_an_empty_list_is_a_clear_error(tmp_path):
    with pytest.raises(InputError) as caught:
        find_inputs([], tmp_path / "out", DEFAULT_POLICY, read_list(b"\n\n"))
    assert caught.value.code == "predict.no_scans"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    """A runs folder with the manifest of a few images, one of which it quarantined."""
    place = tmp_path_factory.mktemp("cohort")
    lines = ["scan,patient_id,label"]
    for number in range(6):
        nifti(place / "raw" / f"{number}.nii", number)
        lines.append(f"{number}.nii,P{number},{'ill' if number % 2 else 'well'}")
    (place / "raw" / "5.nii").write_bytes(b"")
    (place / "raw" / "labels.csv").write_text("\n".join(lines) + "\n")
    config = CohortConfig.model_validate(
        {
            "name": "few",
            "source": {"kind": "folder", "root": str(place / "raw")},
            "prep": "x",
        }
    )
    ingest(config, place / "runs", place / "runs" / "few" / "manifest")
    return place


@pytest.mark.parametrize("given_as", ["", "manifest.parquet"])
def test_the_scans_of_a_manifest_are_found_where_they_lie(cohort, tmp_path, given_as):
    asked = cohort / "runs" / "few" / "manifest" / given_as
    (folder,) = find_inputs([asked], tmp_path / "out", DEFAULT_POLICY)
    assert folder.root == cohort / "raw"
    assert [scan.name for scan in folder.scans] == [f"{n}.nii" for n in range(5)]
    assert all((folder.root / scan.source.paths[0]).is_file() for scan in folder.scans)


def test_a_manifest_is_given_alone_and_out_lies_apart_from_its_scans(cohort, tmp_path):
    asked = cohort / "runs" / "few" / "manifest"
    other = nifti(tmp_path / "other.nii")
    assert refusal(asked, other, out=tmp_path / "out").code == "predict.manifest_alone"
    assert refusal(asked, out=cohort / "raw" / "out").code == "predict.out_in_input"


def test_a_server_reads_no_scans_that_a_manifest_names_elsewhere(cohort, make_package):
    scorer = RowScorer(make_package(), cohort / "runs")
    (row,) = scorer.score([{"path": "few/manifest"}])
    assert row["code"] == "serve.outside_root"
    assert str(cohort) not in row["reason"]


def test_a_missing_path_is_named(tmp_path):
    error = refusal(tmp_path / "typo", out=tmp_path / "out")
    assert error.code == "predict.not_found"
    assert "typo" in error.message


@pytest.mark.parametrize("content", [None, "labels.csv"])
def test_a_folder_without_scans_is_a_clear_error(tmp_path, content):
    (tmp_path / "in").mkdir()
    if content:
        (tmp_path / "in" / content).write_text("scan,label\n")
    error = refusal(tmp_path / "in", out=tmp_path / "out")
    assert error.code == "predict.no_scans"
    assert ("skipped: 1 x" in error.message) == (content is not None)


@pytest.mark.parametrize("out", ["in", "in/out", ".", "in/sub"])
def test_inputs_and_outputs_may_not_lie_in_each_other(tmp_path, out):
    nifti(tmp_path / "in" / "sub" / "scan.nii")
    assert refusal(tmp_path / "in", out=tmp_path / out).code == "predict.out_in_input"


def test_an_output_beside_a_file_is_fine_but_not_above_it(tmp_path):
    file = nifti(tmp_path / "in" / "scan.nii")
    assert names(file, out=tmp_path / "in" / "out") == ["scan.nii"]
    assert refusal(file, out=tmp_path).code == "predict.out_in_input"


def test_a_link_to_the_input_does_not_hide_that_out_lies_in_it(tmp_path):
    nifti(tmp_path / "in" / "scan.nii")
    (tmp_path / "alias").symlink_to(tmp_path / "in")
    error = refusal(tmp_path / "in", out=tmp_path / "alias" / "out")
    assert error.code == "predict.out_in_input"


def dicom(*paths: str, item: str = "") -> ScanSource:
    return ScanSource("dicom", paths, item)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        # one series in its folder is named by the folder
        ([dicom("a/1", "a/2")], ["a"]),
        ([dicom("1", "2")], ["in"]),
        ([dicom("a/1", "a/2"), dicom("b/1", "b/2")], ["a", "b"]),
        # two series in one folder, or one over two folders, by their first files
        ([dicom("a/1", "a/2"), dicom("a/3", "a/4")], ["a/1", "a/3"]),
        ([dicom("a/1", "b/1")], ["a/1"]),
        ([dicom("a/1", "b/1"), dicom("b/2", "b/3")], ["a/1", "b/2"]),
        # single files by themselves, also beside a series
        ([dicom("a/1", "a/2"), dicom("a/3")], ["a", "a/3"]),
        # several volumes in one file by their item
        ([dicom("a/1", item="t0"), dicom("a/1", item="t1")], ["a/1#t0", "a/1#t1"]),
        # a pair of files of another format is no series
        ([ScanSource("nifti", ("a/x.hdr", "a/x.img"))], ["a/x.hdr"]),
    ],
)
def test_scans_are_named_by_file_or_series_folder(tmp_path, monkeypatch, sources, expected):
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(module, "discover", lambda root, files, policy: Found(tuple(sources)))
    assert names(tmp_path / "in", out=tmp_path / "out") == expected


def test_of_several_series_the_folder_above_each_is_told(tmp_path, monkeypatch):
    for place in ("P1/t1", "P2/t2", "P3"):
        (tmp_path / place).mkdir(parents=True)
    series = {"P3": Found((dicom("a/1", "a/2"),))}
    monkeypatch.setattr(
        module,
        "discover",
        lambda root, files, policy: series.get(root.name, Found((dicom("1", "2"),))),
    )
    given = [tmp_path / place for place in ("P1/t1", "P2/t2", "P3")]
    assert sorted(names(*given, out=tmp_path / "out")) == [
        "P1/t1",
        "P2/t2",
        f"{tmp_path.name}/P3/a",
    ]
    folders = find_inputs(given, tmp_path / "out", DEFAULT_POLICY)
    assert folders[0].shown("1") == "P1/t1/1"


def test_a_rejected_series_is_named_by_its_folder_and_blocks_no_other_name(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    found = Found(
        sources=(dicom("a/1", "a/2"), dicom("c/1", "c/2")),
        rejected=(
            Rejected(("b/1", "b/2"), "dicom.missing_slices", "gap"),
            Rejected(("c/3", "c/4"), "dicom.missing_slices", "gap"),
            Rejected(("d/1",), "file.empty", "empty"),
        ),
        skipped=(Skipped("x.csv", "a table"),),
    )
    monkeypatch.setattr(module, "discover", lambda root, files, policy: found)
    (folder,) = find_inputs([tmp_path / "in"], tmp_path / "out", DEFAULT_POLICY)
    assert [scan.name for scan in folder.scans] == ["a", "c/1"]
    assert [rejected.name for rejected in folder.rejected] == ["b", "c/3", "d/1"]
    assert folder.skipped == found.skipped


def test_names_that_are_not_utf8_stay_readable(tmp_path):
    path = nifti(tmp_path / "in" / "scan.nii")
    path.rename(path.with_name(os.fsdecode(b"\xff=x\n.nii")))
    (name,) = names(tmp_path / "in", out=tmp_path / "out")
    assert name == "\\xff=x\n.nii"
    assert readable("na\u00efve.nii") == "na\u00efve.nii"
