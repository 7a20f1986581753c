"""Pictures are found again by scan, in whatever order they came, and never another scan's."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.gallery.pack import Pack, Pictures, append

NAMES = st.text(st.characters(codec=None), max_size=8)
PICTURES = st.builds(
    Pictures, st.binary(min_size=1, max_size=20), st.none() | st.binary(max_size=20)
)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(NAMES, PICTURES), unique_by=lambda item: item[0], max_size=12))
def test_what_was_put_in_is_found(items):
    with TemporaryDirectory() as folder:
        pack = Path(folder) / "pack"
        pack.touch()
        for name, pictures in items:
            append(pack, name, (f"{name}/1", f"{name}/2"), pictures)
        with Pack(pack) as found:
            assert {name: found.find(name) for name, _ in items} == dict(items)
            assert found.find("some other scan") is None


def test_scans_that_are_shown_by_one_name_have_no_picture(tmp_path):
    # "\\xfe" may be the name of one file and stand for the byte FE in that of another.
    append(tmp_path / "pack", "\\xfe.nii", ("\\xfe.nii",), Pictures(b"one"))
    append(tmp_path / "pack", "a.nii", ("a.nii",), Pictures(b"a"))
    append(tmp_path / "pack", "\\xfe.nii", ("\udcfe.nii",), Pictures(b"other"))
    append(tmp_path / "pack", "a.nii", ("a.nii",), Pictures(b"a"))  # the same scan once more
    with Pack(tmp_path / "pack") as found:
        assert found.find("\\xfe.nii") is None
        assert found.find("a.nii") == Pictures(b"a")
