"""One number of a study's outcome, as a claim names it: a score, or what a probe measured."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from data_prep.config import Config
from pipeline.metrics import METRICS

MEASURED: Final = "measured"  # the split, as it were, of what probes measure
ALL: Final = "all"


def _known_metric(name: str) -> str:
    if name and name not in METRICS:
        raise ValueError(f"no such metric; allowed: {', '.join(METRICS)}")
    return name


class Quantity(Config):
    """One number of a study's outcome: the mean over all cells of a family and size.

    Attributes:
        family: As the study calls it.
        cohort: One of the claim's; left out: the first.
        size: Number of training patients; ``all``: the largest size.
        under: A condition of the study, in the words of its split (``shift 4 px``); left out: test
            scans as they are.
        scans: ``train``: the score is that on the scans that each cell was fitted on, which tells
            whether it was trained out; else on test scans.
        metric: Of which; left out: the study's own.
        measured: What a probe has measured, ``probe/quantity``, in place of a score.
        term: Of the expected squared loss, taken apart, in place of a score: ``bias2`` and so on.
    """

    family: str
    cohort: str = ""
    size: Annotated[int, Field(ge=4)] | Literal["all"] = ALL
    under: str = ""
    scans: Literal["test", "train"] = "test"
    metric: Annotated[str, AfterValidator(_known_metric)] = ""
    measured: str = ""
    term: Literal["", "noise", "bias2", "variance_data", "variance_seed", "variance", "total"] = ""

    @model_validator(mode="after")
    def _one_thing(self) -> Quantity:
        if sum(map(bool, (self.metric, self.measured, self.term))) > 1:
            raise ValueError("give one of metric, measured and term")
        if self.term and self.under:
            raise ValueError("the loss is taken apart of test scans as they are: leave out 'under'")
        if self.scans == "train" and (self.under or self.measured or self.term):
            raise ValueError("of training scans there is a score: leave out under, measured, term")
        return self

    @property
    def anywhere(self) -> Quantity:
        """The same of whatever cohort comes first."""
        return self.model_copy(update={"cohort": ""})

    def __str__(self) -> str:
        words = [self.family]
        if self.cohort:
            words.append(f"on {self.cohort.removeprefix('lecture/')}")
        if self.size != ALL:
            words.append(f"at {self.size} patients")
        if self.under:
            words.append(f"under {self.under}")
        if self.measured:
            words.append(f"({self.measured.replace('/', ': ')})")
        elif self.metric or self.term:
            words.append(f"({self.metric or self.term})")
        if self.scans == "train":
            words.append("on its training scans")
        return " ".join(words)


def _quantity(value: Any) -> Any:
    return {"family": value} if isinstance(value, str) else value


Named = Annotated[Quantity, BeforeValidator(_quantity)]
