"""Copies between memory orders are numpy's own, whatever the strides."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from data_prep.memory_order import c_contiguous, copy_into


@st.composite
def views(draw: st.DrawFn) -> NDArray[np.int16]:
    """Numbered voxels whose axes lie in memory in any order and direction."""
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=4)))
    array = np.arange(np.prod(shape, dtype=int), dtype=np.int16).reshape(shape)
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    array = array[tuple(slice(None, None, draw(st.sampled_from((1, -1)))) for _ in array.shape)]
    return array[np.newaxis] if draw(st.booleans()) else array


@settings(deadline=None, max_examples=60)
@given(array=views())
def test_a_copy_holds_the_same_voxels_in_c_order(array: NDArray[np.int16]) -> None:
    found = c_contiguous(array)
    assert found.flags.c_contiguous
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@settings(deadline=None, max_examples=60)
@given(array=views(), data=st.data())
def test_any_order_can_be_copied_into_any_other(
    array: NDArray[np.int16], data: st.DataObject
) -> None:
    axes = data.draw(st.permutations(range(array.ndim)))
    out = np.zeros(array.shape, np.int16).transpose(axes)
    source = array.transpose(axes)
    copy_into(out, source)
    np.testing.assert_array_equal(out, source)


@settings(deadline=None, max_examples=30)
@given(
    lines=st.integers(2, 40),
    columns=st.sampled_from((7, 256, 512, 513)),
    axis=st.integers(0, 2),
    backwards=st.booleans(),
)
def test_planes_whose_lines_share_the_cache_are_copied_whole(
    lines: int, columns: int, axis: int, backwards: bool
) -> None:
    plane = np.arange(lines * columns, dtype=np.float32).reshape(lines, columns)
    turned = np.expand_dims(plane[:: -1 if backwards else 1].T, axis)
    np.testing.assert_array_equal(c_contiguous(turned), turned)


def test_what_is_in_order_is_not_copied() -> None:
    array = np.zeros((2, 3, 4))
    assert c_contiguous(array) is array
