"""What a study varies and how it decides: ``configs/study/*.yaml``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from data_prep.config import Config, config_name
from data_prep.errors import nearest
from pipeline.families import FamilyVariant, choice_name
from pipeline.metrics import within_range
from pipeline.probes import ProbeConfig
from pipeline.study.claim import Claim
from pipeline.study.condition import Condition
from pipeline.trust.config import TrustConfig

MetricName = Literal["auc", "accuracy", "balanced_accuracy", "brier", "log_loss"]
METRIC_WORDS: Final[dict[str, str]] = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "log_loss": "log loss",
}
Size = Annotated[int, Field(ge=4)] | Literal["all"]
EXTENDABLE: Final = ("subsets", "seeds", "sizes", "families")
FamilyChoice = Annotated[
    Annotated[str, config_name("family"), Tag("name")] | Annotated[FamilyVariant, Tag("variant")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "variant"),
]


RuleName = Literal["best", "one_standard_error"]


class ReleaseRule(Config):
    """How the family to release is chosen, by validation scores at the largest size only.

    Attributes:
        rule: ``best`` takes the best mean. ``one_standard_error`` takes the simplest family whose
            mean is within one standard error of the best (Breiman et al. 1984, section 3.4.3);
            "simplest" is the first in the order of ``StudyConfig.families``.
        metric: Which metric; the study's own if not given.
    """

    rule: RuleName = "best"
    metric: MetricName | None = None


def _refuse_unknown(what: str, asked: Iterable[str], known: list[str]) -> None:
    """Refuse the first name that is none of those there are."""
    for name in asked:
        if name not in known:
            near = nearest(name, known)
            raise ValueError(f"{what} '{name}'{near}; it has {', '.join(known)}")


class StudyConfig(Config):
    """A grid of families x sizes x subsets x seeds, and what is asked of it.

    Attributes:
        families: Names of ``configs/family`` (or paths of YAML files, relative to the study's), or
            variants of them, ``{name, like, params}``; simplest first: the order decides ties of
            the release rule and the order of every table.
        sizes: Numbers of training patients, or ``all`` for every one there is.
        subsets: Replicates: independent nested draws of training patients.
        seeds: Repetitions of each subset with other initial weights and batch orders.
        seed: Base of all randomness: replicate r draws its patients from (seed, r), and the
            families get the seeds seed, seed + 1, ...
        metric: The headline metric.
        validation: ``all``: every validation patient is used at each size, as the release will
            be; ``proportional``: at size n as large a share of the validation patients as n is
            of the training patients, so that a small study is small in both.
        threads: Threads of one cell. Sums over threads differ in the last bits, so the number is
            part of the cell's key and does not follow the machine.
        targets: Scores of ``metric`` whose first size is reported.
        release: How the family to release is chosen.
        trust: What the released model carries besides its weights: calibration, threshold,
            prediction sets, and what its training scans look like.
        conditions: Shifts of the test scans, under each of which every cell is scored once more, as
            a split of its own (``test/shift 4 px``); nothing is chosen by it.
        probes: Of a family by name: what is measured on each of its fitted cells, as
            ``pipeline.probes`` has it, beside the scores.
        resamples: Bootstrap resamples of every interval.
        level: Coverage that intervals aim at.
        claim: What its outcome is expected to be (``medcurve lecture``).
    """

    families: Annotated[tuple[FamilyChoice, ...], Field(min_length=1)]
    sizes: Annotated[tuple[Size, ...], Field(min_length=1)]
    subsets: Annotated[int, Field(ge=1, le=1000)] = 3
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    metric: MetricName = "auc"
    validation: Literal["all", "proportional"] = "all"
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    targets: tuple[float, ...] = ()
    release: ReleaseRule = ReleaseRule()
    trust: TrustConfig = TrustConfig()
    conditions: tuple[Condition, ...] = ()
    probes: dict[str, tuple[ProbeConfig, ...]] = Field(default_factory=dict)
    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    claim: Claim | None = None

    @field_validator("families", "sizes", "conditions")
    @classmethod
    def _differ(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        twice = next((value for n, value in enumerate(values) if value in values[:n]), None)
        if twice is not None:
            raise ValueError(f"'{twice}' is listed twice")
        return values

    @model_validator(mode="after")
    def _targets_exist(self) -> StudyConfig:
        for target in self.targets:
            if target != within_range(self.metric, target):
                raise ValueError(f"targets: {target:g} is no value that {self.metric} can take")
        return self

    @model_validator(mode="after")
    def _probes_fit(self) -> StudyConfig:
        families = [choice_name(one) for one in self.families]
        _refuse_unknown("probes: the study has no family", self.probes, families)
        return self

    @model_validator(mode="after")
    def _flip_fits(self) -> StudyConfig:
        """What a claim's flip changes must be there, and at least one thing must change."""
        if self.claim is None:
            return self
        flip, families = self.claim.flip, [choice_name(one) for one in self.families]
        for field, asked, known in (
            ("params", flip.params, families),
            ("permute", flip.permute, families),
            ("cohorts", flip.cohorts, list(self.claim.cohorts)),
            ("probes", flip.probes, list(self.probes)),
        ):
            _refuse_unknown(f"claim.flip.{field}: the claim has no", asked, known)
        if not (flip.params or flip.permute or flip.cohorts or flip.probes):
            raise ValueError("claim.flip changes nothing: give params, permute, cohorts or probes")
        last = len(self.claim.expect)
        for place in flip.fails:
            if place > last:
                raise ValueError(
                    f"claim.flip.fails: there is no expectation {place}; 'expect' has 1 to {last}"
                )
        return self

    @model_validator(mode="after")
    def _pictures_fit(self) -> StudyConfig:
        """What a claim's page is to show is drawn by a probe of the study."""
        known = [f"{name}: {one.probe}" for name, probes in self.probes.items() for one in probes]
        for picture in self.claim.pictures if self.claim else ():
            asked = f"{picture.family}: {picture.probe}"
            if asked not in known:
                raise ValueError(
                    f"claim.pictures: the study does not measure '{asked}'{nearest(asked, known)}; "
                    f"its probes are {', '.join(known) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _claim_fits(self) -> StudyConfig:
        """Every number that the claim looks at must be one of this study's."""
        families = [choice_name(one) for one in self.families]
        conditions = [str(shift) for shift in self.conditions]
        claim = self.claim
        for asked in claim.quantities() if claim else ():
            for name, value, known in (
                ("family", asked.family, families),
                ("under", asked.under, ["", *conditions]),
                ("size", asked.size, ["all", *self.sizes]),
                ("quick.size", asked.size, ["all", *(claim.quick.sizes if claim else ())]),
                ("cohort", asked.cohort, ["", *(claim.cohorts if claim else ())]),
            ):
                if value not in known:
                    allowed = ", ".join(str(one) for one in known if one)
                    raise ValueError(
                        f"claim.expect: '{asked}' has {name} '{value}', which the study does not "
                        f"have{nearest(str(value), [str(one) for one in known])}; it has {allowed}"
                    )
        return self

    @model_validator(mode="after")
    def _named_fit(self) -> StudyConfig:
        """Families are there that a claim names, and are run where it looks at them."""
        if self.claim is None:
            return self
        claim, families = self.claim, [choice_name(one) for one in self.families]
        steps, cohorts = claim.quick.steps, [*claim.cohorts, *claim.real]
        for field, asked, known in (
            ("only", [*claim.only], cohorts),
            ("only", [name for named in claim.only.values() for name in named], families),
            ("quick.steps", [*steps] if isinstance(steps, dict) else [], families),
        ):
            for name in asked:
                if name not in known:
                    raise ValueError(
                        f"claim.{field}: the claim has no '{name}'{nearest(name, known)}; it has "
                        f"{', '.join(known)}"
                    )
        for quantity in claim.quantities():
            cohort = quantity.cohort or claim.cohorts[0]
            if quantity.family not in claim.run_on(cohort, families):
                raise ValueError(
                    f"claim.expect: '{quantity}' is not run on {cohort}: claim.only has "
                    f"{', '.join(claim.only[cohort])} there"
                )
        return self

    @model_validator(mode="after")
    def _measured(self) -> StudyConfig:
        """What the claim looks at is measured by a probe of that family, undone as well."""
        if self.claim is None:
            return self
        undone = self.probes | self.claim.flip.probes
        for field, probes in (("probes", self.probes), ("claim.flip.probes", undone)):
            for asked in self.claim.quantities():
                own = probes.get(asked.family, ())
                known = [f"{one.probe}/{name}" for one in own for name in one.quantities]
                if asked.measured and asked.measured not in known:
                    near = nearest(asked.measured, known)
                    told = ", ".join(known) or "nothing"
                    raise ValueError(
                        f"claim.expect: '{asked.measured}' is not measured on '{asked.family}'"
                        f"{near}; its probes ({field}) give {told}"
                    )
        return self

    @model_validator(mode="after")
    def _axis_fits(self) -> StudyConfig:
        """What a claim's scores are drawn against is measured, and breaks are of its cohorts."""
        axis = self.claim.against if self.claim else None
        if self.claim is None or axis is None:
            return self
        probes = [probe for own in self.probes.values() for probe in own]
        measured = list(dict.fromkeys(f"{p.probe}/{name}" for p in probes for name in p.quantities))
        for field, asked, known in (
            ("measured", [axis.measured], measured),
            ("breaks", list(axis.breaks), list(self.claim.cohorts)),
        ):
            for name in asked:
                if name not in known:
                    raise ValueError(
                        f"claim.against.{field}: the study does not have '{name}'"
                        f"{nearest(name, known)}; it has {', '.join(known) or 'none'}"
                    )
        return self

    @property
    def release_metric(self) -> str:
        """The metric that the release rule looks at."""
        return self.release.metric or self.metric
