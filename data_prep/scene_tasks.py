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
from data_prep.scene_draw import DOT, PATCH, Floats, L, T, grating, scatter

Nuisance = Literal["translation_px", "orientation"]
Stamp = tuple[Floats, tuple[float, float], float]  # a pattern, where its middle is, its brightness

_REACH_PX: Final = 2  # of T and L from their middle
_CELLS: Final = 3  # along each axis, of the grid that counted patterns stand on
_COUNTED: Final = 4  # patterns in all
_PAIRS: Final = 2
_COARSE_PX, _FINE_PX = 8, 4  # wavelengths; an edge holds whole numbers of both

_MARK_COLUMNS_PX, _MARK_ROWS_PX = 5, 10  # between marks; 5 meets every phase of pooling by 2, 4, 8

_EXCHANGES: Final = "it would exchange the classes"
_NO_EFFECT: Final = "it changes nothing about this pattern"


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
    """

    class_names: ClassVar[tuple[str, str]]
    refused: ClassVar[dict[Nuisance, str]] = {}
    most_rotation_deg: ClassVar[float] = 180.0

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
