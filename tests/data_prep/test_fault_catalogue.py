"""No item of the fault catalogue is without a test: 1 to 80 and 83 to 88.

The cases stand beside what they test. A case is numbered by its title ("66 truncated PNG"), a
test of one item alone by ``@pytest.mark.fault``. What a stage does when its disk fills, when it
is killed or when a server is down (81, 82, 89 to 96) is tested with the stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType

import pytest
import test_discovery
import test_fault_catalogue_labels
import test_faults_accepted
import test_faults_dicom
import test_medmnist_reader
import test_nifti_reader
import test_raster_reader
import test_sandbox

MODULES = (
    test_discovery,
    test_fault_catalogue_labels,
    test_faults_accepted,
    test_faults_dicom,
    test_medmnist_reader,
    test_nifti_reader,
    test_raster_reader,
    test_sandbox,
)
ITEMS = {*range(1, 81), *range(83, 89)}

# Items with more than one right answer, and how many cases each has at least.
SEVERAL = {3: 4, 6: 8, 9: 3, 11: 4, 22: 3, 34: 4, 46: 3, 54: 4, 57: 5, 70: 6, 79: 4, 83: 4, 86: 3}


def numbers(module: ModuleType) -> Iterator[int]:
    """The item of every case of a module."""
    for name, test in vars(module).items():
        for mark in getattr(test, "pytestmark", ()) if name.startswith("test_") else ():
            if mark.name == "fault":
                yield from mark.args
            elif mark.name == "parametrize":
                yield from _titled(mark)


def _titled(mark: pytest.Mark) -> Iterator[int]:
    ids = mark.kwargs.get("ids")
    if not isinstance(ids, (list, tuple)):  # none are given, or a function makes them
        ids = [getattr(case, "id", None) or case for case in mark.args[1]]
    for title in ids:
        if number := re.match(r"(\d+) ", str(title)):
            yield int(number[1])


def test_every_item_has_a_case() -> None:
    covered = [number for module in MODULES for number in numbers(module)]
    assert sorted(ITEMS - set(covered)) == []
    assert sorted(set(covered) - ITEMS) == []
    assert [item for item, least in SEVERAL.items() if covered.count(item) < least] == []
