"""What a scene shows: tasks of two classes, each about one thing that a network may see or not.

A task draws one scan's signal from its class and a stream of random numbers, and takes the same
numbers from the stream whatever the class is: positions, signs and phases know nothing of it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from data_prep.config import Config
from data_prep.scene_draw import DOT, PATCH, Floats, L, T, grating, leaf, scatter

Nuisance = Literal["translation_px", "rotation_deg", "orientation"]
Stamp = tuple[Floats, tuple[float, float], float]  # a pattern, where its middle is, its brightness

_REACH_PX: Final = 2  # of T and L from their middle
_CELLS: Final = 3  # along each axis, of the grid that counted patterns stand on
_COUNTED: Final = 4  # patterns in all
_COARSE_PX, _FINE_PX = 8, 4  # wavelengths; an edge holds whole numbers of both

_MARK_COLUMNS_PX, _MARK_ROWS_PX = 5, 10  # between marks; 5 meets every phase of pooling by 2, 4, 8

_LEAF_PX: Final = (3.0, 12.0)  # radii; the leaf on top, which is seen whole, has its own
_TOP_LEAF_PX: Final = (5.0, 7.0)
_PX_PER_LEAF: Final = 25  # so many leaves that one in the open is half covered by later ones
_BELOW: Final = 0.8  # brightest and darkest of the leaves under the one on top, which is 1

_EXCHANGES: Final = "it would exchange the classes"
_NO_EFFECT: Final = "it changes nothing about this pattern"
_ANYWHERE: Final = "its shapes already lie anywhere, turned by any angle"


@dataclass(frozen=True, eq=False)
class Pose:
    """How the arrangement of one scan lies; drawn without looking at its class.

    Attributes:
        edge_px: Rows and columns of the image.
        room_px: Pixels at each border that an arrangement leaves free, to be moved into.
        shift_px: (2,) whole pixels that all of it is moved by.
        turn: (2, 2) matrix that turns each pattern about its own middle.
        swells: Whether patterns take a pixel more at each side, being turned by any angle.
    """

    edge_px: int
    room_px: int
    shift_px: Floats
    turn: Floats
    swells: bool

    def stamp(self, stamps: list[Stamp]) -> Floats:
        """(edge_px, edge_px) with the patterns, turned and moved."""
        points = [offsets @ self.turn.T + place + self.shift_px for offsets, place, _ in stamps]
        weights = [np.full(len(offsets), brightness) for offsets, _, brightness in stamps]
        return scatter(self.edge_px, np.concatenate(points), np.concatenate(weights))


class SceneTask(Config):
    """What every task says of itself.

    Attributes:
        class_names: Two, in order.
        refused: Nuisance -> why this task does not take it.
        most_rotation_deg: Largest ``rotation_deg`` that leaves the class as it is.
        most_noise: Largest ``noise``, in parts of ``contrast``, with which the class is still seen
            for sure.
    """

    class_names: ClassVar[tuple[str, str]]
    refused: ClassVar[dict[Nuisance, str]] = {}
    most_rotation_deg: ClassVar[float] = 180.0
    # A quarter never reaches half of the contrast, so that a pixel with a dot and one without
    # cannot be taken for each other.
    most_noise: ClassVar[float] = 0.25

    @abstractmethod
    def room_px(self, edge_px: int, swells: bool) -> int:
        """How far the arrangement can be moved along each axis; negative: it does not fit."""

    @abstractmethod
    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        """(edge_px, edge_px) signal, about -1 to 1, of the first class or the ``second``."""


class Presence(SceneTask):
    """A T in the middle, or an L of the same nine dots: is the T there?"""

    kind: Literal["presence"] = "presence"
    class_names = ("absent", "present")

    def room_px(self, edge_px: int, swells: bool) -> int:
        return edge_px // 2 - 1 - _REACH_PX - swells

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        middle = float(pose.edge_px // 2)
        return pose.stamp([(T if second else L, (middle, middle), 1.0)])


class Configuration(SceneTask):
    """A T and an L, half the image's width apart: is the T on the left or on the right?

    Rolled by half its width, an image of one class is one of the other: what does not change when
    an image is rolled (circular convolutions under global pooling) cannot tell.
    """

    kind: Literal["configuration"] = "configuration"
    class_names = ("t_left", "t_right")

    def room_px(self, edge_px: int, swells: bool) -> int:
        return edge_px // 4 - 1 - _REACH_PX - swells

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        middle, quarter = pose.edge_px / 2, pose.edge_px / 4
        left, right = (L, T) if second else (T, L)
        return pose.stamp([(left, (middle, quarter), 1.0), (right, (middle, 3 * quarter), 1.0)])


class Count(SceneTask):
    """Four patterns: one T and three L, or two T and two L. Brightness is the same.

    Which patterns there are is the same in both classes, only how many of each is not: a sum or
    mean of responses over the image tells; the largest response to one pattern does not, but a
    response to two neighbours at once does.
    """

    kind: Literal["count"] = "count"
    class_names = ("one", "two")

    def room_px(self, edge_px: int, swells: bool) -> int:
        return (edge_px - _CELLS * (2 * (_REACH_PX + swells) + 2)) // 2

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        reach = _REACH_PX + pose.swells
        cell = (pose.edge_px - 2 * pose.room_px) // _CELLS
        cells = rng.permutation(_CELLS**2)[:_COUNTED]
        # One column and row of each cell stays free, so that patterns never touch.
        jitter = rng.integers(0, cell - 2 * reach - 1, size=(_COUNTED, 2))
        corners = pose.room_px + cell * np.stack([cells // _CELLS, cells % _CELLS], axis=1)
        places = (corners + jitter + reach).astype(np.float64)
        targets = 2 if second else 1
        return pose.stamp(
            [
                (T if number < targets else L, (float(row), float(column)), 1.0)
                for number, (row, column) in enumerate(places)
            ]
        )


class TextureDirection(SceneTask):
    """Stripes all over the image, 8 pixels long: horizontal or vertical? Phase is random."""

    kind: Literal["texture_direction"] = "texture_direction"
    class_names = ("horizontal", "vertical")
    refused: ClassVar[dict[Nuisance, str]] = {"orientation": _EXCHANGES}
    most_rotation_deg = 30.0

    def room_px(self, edge_px: int, swells: bool) -> int:
        return edge_px

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        across = np.array([0.0, 1.0] if second else [1.0, 0.0])
        return grating(pose.edge_px, pose.turn @ across / _COARSE_PX, rng.random())


class TextureWavelength(SceneTask):
    """Vertical stripes all over the image: 8 pixels long, or 4? Phase is random."""

    kind: Literal["texture_wavelength"] = "texture_wavelength"
    class_names = ("coarse", "fine")

    def room_px(self, edge_px: int, swells: bool) -> int:
        return edge_px

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        length = _FINE_PX if second else _COARSE_PX
        return grating(pose.edge_px, pose.turn @ np.array([0.0, 1.0]) / length, rng.random())


class PatternSize(SceneTask):
    """Pairs of dots: is each of one sign (++ and --), or of both (+- and -+)?

    The dots of a pair are ``pattern_px - 1`` pixels apart along a row, dots of different pairs at
    least as far along a column. So a window of fewer than ``pattern_px`` pixels holds one dot at
    most, bright as often as dark in either class: it cannot tell, nor can any sum over windows,
    for every image has as many bright dots as dark ones.

    Attributes:
        pattern_px: Edge of the smallest window in which the class can be seen.
        pairs: How many there are, an even number; more are easier to learn from few scans.
    """

    kind: Literal["pattern_size"] = "pattern_size"
    pattern_px: Annotated[int, Field(ge=2, le=128)] = 7
    pairs: Annotated[int, Field(ge=2, le=64, multiple_of=2)] = 4
    class_names = ("opposite", "alike")
    most_rotation_deg = 0.0  # dots have to lie on whole pixels

    def room_px(self, edge_px: int, swells: bool) -> int:
        return (edge_px - 1 - (self.pairs - 1) * (self.pattern_px - 1)) // 2

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        apart = self.pattern_px - 1
        free = pose.edge_px - 2 * pose.room_px  # pixels that dots may lie on, along either axis
        columns = rng.integers(0, free - apart, size=self.pairs)
        # What is left between rows that are as near as may be is shared out at random.
        spare = rng.integers(0, free - apart * (self.pairs - 1), size=self.pairs)
        rows = np.sort(spare) + apart * np.arange(self.pairs)
        signs = rng.permutation([1.0, -1.0] * (self.pairs // 2))
        stamps: list[Stamp] = []
        for row, column, sign in zip(rows, columns, signs, strict=True):
            place = float(pose.room_px + row), float(pose.room_px + column)
            other = sign if second else -sign
            stamps += [(DOT, place, sign), (DOT, (place[0], place[1] + apart), other)]
        image = pose.stamp(stamps)
        return image.T if pose.turn[0, 0] == 0 else image


class Location(SceneTask):
    """A dot on one of many marks, or one pixel to the right of it: on or beside?

    The marks are not drawn and lie 5 pixels apart, so that their places have to be learned to the
    pixel and no rule on even and odd columns, which would outlast pooling, replaces them.
    """

    kind: Literal["location"] = "location"
    class_names = ("on_mark", "beside_mark")
    refused: ClassVar[dict[Nuisance, str]] = {
        "translation_px": _EXCHANGES,
        "orientation": _NO_EFFECT,
    }
    most_rotation_deg = 0.0

    def room_px(self, edge_px: int, swells: bool) -> int:
        return 0

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        row = float(rng.choice(range(2, pose.edge_px - 2, _MARK_ROWS_PX)))
        column = float(rng.choice(range(2, pose.edge_px - 2, _MARK_COLUMNS_PX)))
        return pose.stamp([(DOT, (row, column + second), 1.0)])


class Position(SceneTask):
    """A patch of 3 x 3 pixels in the left or the right half, and nothing else but the border.

    Rolled by half its width, an image of one class is one of the other (see ``Configuration``).
    """

    kind: Literal["position"] = "position"
    class_names = ("left", "right")
    refused: ClassVar[dict[Nuisance, str]] = {"orientation": _NO_EFFECT}

    def room_px(self, edge_px: int, swells: bool) -> int:
        return edge_px // 4 - 2 - swells

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        quarter = pose.edge_px / 4
        return pose.stamp([(PATCH, (2 * quarter, (3 if second else 1) * quarter), 1.0)])


class Leaves(SceneTask):
    """Fallen leaves that cover one another: all of them round, or all of them square?

    The dead leaves model of natural images (Lee, Mumford and Huang 2001, "Occlusion models for
    natural images"): shapes of any grey level at any place, turned by any angle, with radii of a
    density that falls with their third power, so that edges and corners of all scales abound. The
    leaf that falls last is the brightest and lies whole within the image: whatever the others
    look like, it tells the class.
    """

    kind: Literal["leaves"] = "leaves"
    class_names = ("round", "square")
    refused: ClassVar[dict[Nuisance, str]] = {
        "translation_px": _ANYWHERE,
        "rotation_deg": _ANYWHERE,
        "orientation": _ANYWHERE,
    }
    # Whatever a disc and a square of these sizes lie on, they differ by 0.015 in some pixel.
    most_noise = 0.0025

    def room_px(self, edge_px: int, swells: bool) -> int:
        return int(edge_px - 2 * self._free_px(_TOP_LEAF_PX[1])) // 2

    def draw(self, second: bool, pose: Pose, rng: np.random.Generator) -> Floats:
        edge, (least, most) = pose.edge_px, _LEAF_PX
        image = np.zeros((edge, edge))
        for _ in range(edge**2 // _PX_PER_LEAF):
            radius = (least**-2 + rng.random() * (most**-2 - least**-2)) ** -0.5
            middle, turn = rng.uniform(0, edge, size=2), rng.uniform(0, 2 * np.pi)
            covered = leaf(edge, middle, radius, turn, square=second)
            image += covered * (rng.uniform(-_BELOW, _BELOW) - image)
        radius, turn = rng.uniform(*_TOP_LEAF_PX), rng.uniform(0, 2 * np.pi)
        free = self._free_px(radius)
        middle = rng.uniform(free, edge - 1 - free, size=2)
        covered = leaf(edge, middle, radius, turn, square=second)
        return np.asarray(image + covered * (1 - image))

    @staticmethod
    def _free_px(radius: float) -> float:
        """From the middle to the farthest pixel that a leaf touches: a square's corner."""
        return radius * float(np.sqrt(np.pi / 2)) + 1
