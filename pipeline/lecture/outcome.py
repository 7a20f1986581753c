"""A claim that was put to the test, with all that its page says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.config import is_path
from pipeline.families import FamilyConfig
from pipeline.lecture.fit_seconds import FitSeconds
from pipeline.lecture.pictures import Drawn
from pipeline.study.claim import Claim
from pipeline.study.config import StudyConfig
from pipeline.study.expectation import Judgement, StudyOutcome
from pipeline.study.learning_curve import Point
from pipeline.study.quantity import MEASURED


@dataclass(frozen=True, eq=False)
class ClaimRun:
    """A claim that was put to the test.

    Attributes:
        name: Of its study config.
        claim: What was said beforehand.
        config: The study as it was run.
        families: Config of each family.
        outcomes: Of each cohort, by the name that the claim has for it.
        real: Likewise of public cohorts, about which nothing is asserted.
        judgements: One for each expectation.
        reported: Likewise of what the claim only reports.
        pictures: What probes draw of it, by cohort; of the real ones too.
        asked: Of each public cohort: one for each thing that is expected or reported, by direction.
        seconds: Of each cohort: (family, size) -> how long each of its fits took; of claims whose
            page tells that.
        quick: Whether it was run small.
        flipped: Whether its mechanism was undone, so that it must fail.
    """

    name: str
    claim: Claim
    config: StudyConfig
    families: Mapping[str, FamilyConfig]
    outcomes: Mapping[str, StudyOutcome]
    real: Mapping[str, StudyOutcome]
    judgements: Sequence[Judgement]
    reported: Sequence[Judgement]
    asked: Mapping[str, Sequence[Judgement]]
    pictures: Mapping[str, Sequence[Drawn]]
    quick: bool
    flipped: bool = False
    seconds: Mapping[str, FitSeconds] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether all of it came out as expected."""
        return all(one.holds for one in self.judgements)

    @property
    def stands(self) -> list[str]:
        """What holds although it must fail undone; where the flip names nothing, all of it."""
        asked = len(self.judgements)  # the small version leaves out the last ones
        named = [self.judgements[place - 1] for place in self.claim.flip.fails if place <= asked]
        if not named and not self.holds:
            return []
        return [one.expectation for one in named or self.judgements if one.holds]

    @property
    def short_name(self) -> str:
        """Without its folder."""
        return Path(self.name).stem

    @property
    def file(self) -> str:
        """Where it is found; of a file of one's own the name alone."""
        return Path(self.name).name if is_path(self.name) else f"configs/study/{self.name}.yaml"


def scored(outcome: StudyOutcome) -> Iterator[Point]:
    """The test scores of a cohort by the study's metric, also under conditions."""
    for point in outcome.curves.points.values():
        if point.metric == outcome.config.metric and point.split.split("/")[0] == "test":
            yield point


def measured(outcome: StudyOutcome) -> Iterator[Point]:
    """What probes have measured on the cells of a cohort."""
    for point in outcome.curves.points.values():
        if point.split == MEASURED:
            yield point


def untold(judgements: Sequence[Judgement]) -> list[str]:
    """Each reason for which some of them have no interval, once."""
    return list(dict.fromkeys(one.no_interval for one in judgements if one.no_interval))


def condition(point: Point) -> str:
    """Under what a score was taken, in words; "" where test scans are as they are."""
    return point.split.partition("/")[2]
