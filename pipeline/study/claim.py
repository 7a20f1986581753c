"""A claim that a study is to put to the test: what is expected of its outcome, said beforehand.

    claim:
      expect:
        - {value: cnn, is: above, of: {family: cnn, under: shift 4 px}, by: 0.05}

An expectation compares two numbers of the outcome, or one with a number that is given, or the ranks
that two scores give families (``{ranks: {a: b, ...}}``). It can fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from data_prep.config import Config, config_name
from pipeline.probes import ProbeConfig
from pipeline.study.quantity import ALL, Named, Quantity

Relation = Literal["above", "below", "near", "ranks"]
ClaimMode = Literal["full", "quick", "flipped", "quick flipped"]


class Expectation(Config):
    """What is expected of one number, beside another.

    Attributes:
        value: A quantity, or the name of a family for its test score at the largest size.
        relation: ``is`` in YAML. ``above`` and ``below``: by at least ``by``, with an interval of
            the difference that does not hold 0. ``near``: the whole interval of the difference
            lies within ``within`` of 0 (equivalence, by two one-sided tests: Schuirmann 1987).
            Of scores on training scans alone the difference itself decides.
        of: What it is compared with: a quantity, a family, or a number.
        by: Least difference of ``above`` and ``below``.
        within: Largest difference of ``near``.
        quick: Whether it is asked of the small version as well; not what few patients cannot show.
    """

    model_config = ConfigDict(validate_by_name=True)

    value: Named
    relation: Literal["above", "below", "near"] = Field(alias="is")
    of: float | Named
    by: Annotated[float, Field(ge=0)] = 0.0
    within: Annotated[float, Field(gt=0)] = 0.05
    quick: bool = True

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Those of the outcome that it looks at."""
        return (self.value, self.of) if isinstance(self.of, Quantity) else (self.value,)

    @property
    def fitted(self) -> bool:
        """Whether it asks how well these cells fit the scans that they were fitted on: a fact of
        them, and no estimate of what others would do.
        """
        return all(one.scans == "train" for one in self.quantities)

    @property
    def anywhere(self) -> Expectation:
        """The same of a cohort that the claim was not made for, however large the difference."""
        of = self.of.anywhere if isinstance(self.of, Quantity) else self.of
        return self.model_copy(update={"value": self.value.anywhere, "of": of, "by": 0.0})

    def __str__(self) -> str:
        of = f"{self.of:,.10g}" if isinstance(self.of, float) else str(self.of)
        if self.relation == "near":
            return f"{self.value} is within {self.within:g} of {of}"
        by = f" by {self.by:,.10g} or more" if self.by else ""
        return f"{self.value} is {self.relation} {of}{by}"


class Ranking(Config):
    """That the scores of some families tell the order of those of others.

    Attributes:
        ranks: Family -> the one whose rank its test score is to foretell; at the largest size.
        cohort: One of the claim's; left out: the first.
        by: Least rank correlation (Spearman's). Beside it, a permutation test over the families
            must bear it out: they are the sample, not the patients.
    """

    quick: ClassVar[bool] = True
    ranks: Annotated[dict[str, str], Field(min_length=4)]
    cohort: str = ""
    by: Annotated[float, Field(ge=-1, le=1)] = 0.0

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """First those that foretell, then in the same order those that are foretold."""
        names = (*self.ranks, *self.ranks.values())
        return tuple(Quantity(family=name, cohort=self.cohort) for name in names)

    @property
    def anywhere(self) -> Ranking:
        """The same of a cohort that the claim was not made for, however high the correlation."""
        return self.model_copy(update={"cohort": "", "by": 0.0})

    def __str__(self) -> str:
        where = f" on {self.cohort.removeprefix('lecture/')}" if self.cohort else ""
        told, of = (
            f"{names[0]} to {names[-1]}" for names in (list(self.ranks), list(self.ranks.values()))
        )
        return f"{told}{where} rank as {of}, with a correlation of {self.by:g} or more"


Expected = Annotated[
    Annotated[Expectation, Tag("number")] | Annotated[Ranking, Tag("ranking")],
    Discriminator(
        lambda value: (
            "ranking"
            if isinstance(value, Ranking) or (isinstance(value, dict) and "ranks" in value)
            else "number"
        )
    ),
]


class Picture(Config):
    """What a probe draws of a fitted family, for the claim's page.

    Attributes:
        family: Of the study.
        probe: One of those that the study measures on it.
    """

    family: str
    probe: str


class Axis(Config):
    """What a claim's scores are drawn against: a line for each cohort, a point for each family.

    Attributes:
        measured: A number that a probe has measured on the families, ``probe/quantity``.
        breaks: Cohort -> where on this axis its scores are to break.
        says: What stands there, in words.
    """

    measured: str
    breaks: dict[str, float] = Field(default_factory=dict)
    says: str = ""


_Steps = Annotated[int, Field(ge=0)]


class Quick(Config):
    """The same claim, small: for a first look, and for tests.

    It has only the cohorts, and on each the families and conditions, that ``expect`` looks at.

    Attributes:
        patients: Of each cohort that is generated.
        sizes, subsets, seeds: In place of the study's.
        steps: Optimiser steps of every family that is trained by them, or of those that are named;
            0 leaves them as they are, as does not being named.
        batch_size, learning_rate: Of those steps; left out: each family's own. Small batches at a
            high rate come farthest in little time.
        slack: By so much every expectation is eased; significance is not asked for, since there
            are too few patients and seeds for it.
    """

    patients: Annotated[int, Field(ge=20)] = 160
    sizes: tuple[Annotated[int, Field(ge=4)] | Literal["all"], ...] = (ALL,)
    subsets: Annotated[int, Field(ge=1)] = 1
    seeds: Annotated[int, Field(ge=1)] = 1
    steps: _Steps | dict[str, _Steps] = 0
    batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    slack: Annotated[float, Field(ge=0)] = 0.0

    def steps_of(self, family: str) -> int:
        """Optimiser steps of a family; 0: its own."""
        return self.steps.get(family, 0) if isinstance(self.steps, dict) else self.steps


class Flip(Config):
    """The mechanism undone: with it the claim must fail, or it shows nothing.

    Attributes:
        says: What is undone.
        params: Family of the study -> parameters in place of its own.
        permute: Family -> ``permute`` in place of its own.
        cohorts: Cohort of the claim -> the one in its place.
        probes: Family of the study -> what is measured on it in place of its own probes.
        fails: Which of the claim's expectations must fail, by their places in ``expect``, from 1:
            those that rest on the mechanism. All of them must; with none, any one may.
    """

    says: str
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)
    permute: dict[str, int | None] = Field(default_factory=dict)
    cohorts: dict[str, Annotated[str, config_name("data")]] = Field(default_factory=dict)
    probes: dict[str, tuple[ProbeConfig, ...]] = Field(default_factory=dict)
    fails: tuple[Annotated[int, Field(ge=1)], ...] = ()


class Claim(Config):
    """What a study is to show, in words and as assertions.

    Attributes:
        number: In the order of the lecture.
        title: A line.
        says: What is claimed.
        source: Where it comes from.
        practice: What it means for who trains models.
        limits: Where it does not hold.
        departs: Where it says other than the lecture does, if it does.
        cohorts: On which the study is run: names of ``configs/data``.
        real: Public cohorts on which it can be run as well. What is expected and reported is asked
            there too, of any cohort and by direction; what comes out is told, not asserted.
        only: Cohort of either kind -> the families of the study that are run on it; on a cohort
            that is not named here all of them are.
        expect: What must come out.
        report: What is looked at in the same way and told on the page, whatever comes out;
            not when it is run small.
        pictures: What probes draw of the cell of the first subset and seed, on the first cohort
            and on the public ones; not when it is run small.
        against: What its scores are drawn against; left out: sizes, shifts or families.
        seconds: Whether the page tells how long fits took. Nothing is expected of that: it depends
            on the machine, and on what else it did.
        flip: What makes it fail.
        quick: How it is run small.
        mode: How it was run: ``medcurve lecture`` records it, a file leaves it out.
    """

    number: Annotated[int, Field(ge=1)]
    title: str
    says: str
    source: str
    practice: str
    limits: str
    departs: str = ""
    cohorts: Annotated[tuple[Annotated[str, config_name("data")], ...], Field(min_length=1)]
    real: tuple[Annotated[str, config_name("data")], ...] = ()
    only: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    expect: Annotated[tuple[Expected, ...], Field(min_length=1)]
    report: tuple[Expected, ...] = ()
    pictures: tuple[Picture, ...] = ()
    against: Axis | None = None
    seconds: bool = False
    flip: Flip
    quick: Quick = Quick()
    mode: ClaimMode = "full"

    @model_validator(mode="after")
    def _places_stay(self) -> Claim:
        """The small version leaves out the end of ``expect``, so that places in it stay."""
        asked = [one.quick for one in self.expect]
        if not asked[0] or asked != sorted(asked, reverse=True):
            raise ValueError("expect: put those with 'quick: false' last, after one without")
        return self

    def asserted(self, *, quick: bool) -> tuple[Expected, ...]:
        """What must come out, of the small version or at full size."""
        return tuple(one for one in self.expect if one.quick or not quick)

    def anywhere(self) -> tuple[Expected, ...]:
        """What is asked of a cohort that the claim was not made for; each thing once."""
        asked = {str(one.anywhere): one.anywhere for one in (*self.expect, *self.report)}
        return tuple(asked.values())

    def quantities(self) -> Iterator[Quantity]:
        """Every number that it looks at."""
        for expectation in (*self.expect, *self.report):
            yield from expectation.quantities

    def run_on(self, cohort: str, families: Sequence[str]) -> list[str]:
        """Those of the study's families that are run on a cohort, in their order."""
        return [name for name in families if name in self.only.get(cohort, families)]

    def expected_on(self, cohort: str) -> list[Quantity]:
        """Every number of a cohort that something is asserted of when it is run small."""
        every = [quantity for one in self.asserted(quick=True) for quantity in one.quantities]
        return [one for one in every if (one.cohort or self.cohorts[0]) == cohort]
