"""A claim put to the test: its study on each of its cohorts, and whether it came out as expected.

The claims are studies like any other (``configs/study/lecture``) that say beforehand what must
come out. A claim that does not hold is an error: who changes the pipeline has broken something, or
has learnt something.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from data_prep.cohort import CohortConfig, PhantomSource, SceneSource
from data_prep.config import CONFIG_ROOT, Config
from data_prep.errors import ConfigError, MedcurveError
from pipeline import engines, stages, study_stages
from pipeline.console import heading, say, table
from pipeline.families import FamilyConfig, choice_name, varied
from pipeline.lecture.fit_seconds import FitSeconds, read_fit_seconds
from pipeline.lecture.mode import FULL, Mode
from pipeline.lecture.names import FOLDER, study_name
from pipeline.lecture.numerals import number, spans
from pipeline.lecture.outcome import ClaimRun, untold
from pipeline.lecture.page import write_index, write_page
from pipeline.lecture.pictures import Drawn, draw_pictures, keep_pictures
from pipeline.study.claim import Claim, Expected, Quick
from pipeline.study.config import StudyConfig
from pipeline.study.expectation import Judgement, StudyOutcome, judge
from pipeline.study.findings import Findings
from pipeline.study.flipped import flipped
from pipeline.study.plan import read_families
from pipeline.study.quantity import Quantity
from pipeline.workspace import Workspace, open_workspace

_QUICK_EPOCHS: Final = 5


class ClaimError(MedcurveError):
    """A claim did not come out as expected."""


def claims() -> list[str]:
    """Name of every claim's study, in the order of the lecture."""
    folder = CONFIG_ROOT / "study" / FOLDER
    names = [f"{FOLDER}/{path.stem}" for path in folder.glob("*.yaml")]
    return sorted(names, key=lambda name: claim_of(name, study_stages.read_study(name)).number)


def run_lecture(
    names: Sequence[str],
    runs: Path,
    workers: int | None,
    tracking_uri: str | None,
    mode: Mode = FULL,
    docs: Path | None = None,
) -> None:
    """Put claims to the test, one after the other; all of them are run, whatever comes out.

    Args:
        names: Of study configs with a claim; a name without a folder is one of the lecture's.
        runs: Folder of all cohorts; what is quick or flipped has folders of its own in it.
        workers: Processes.
        tracking_uri: MLflow's.
        mode: How.
        docs: Folder that the pages are written into as well; not those of flips, whose names are
            the claims' own.

    Raises:
        ConfigError: ``claim.undone_page``: both ``docs`` and a flip.
        ClaimError: ``claim.not_shown``, or for a flip ``claim.shown_anyway``: naming the claims.
        MedcurveError: As the stages do.
    """
    if mode.flip and docs is not None:
        raise ConfigError(
            "claim.undone_page",
            f"--docs {docs} with --flip: pages of what is undone would take the place of the "
            "claims' own",
            fix="leave out --docs; the pages lie in the folder 'lecture' of the runs",
        )
    started = time.monotonic()
    configs = {name: study_stages.read_study(name) for name in map(study_name, names)}
    for part in ("quick", "flip"):
        runs = runs / part if getattr(mode, part) else runs
    unexpected = []
    for name, config in configs.items():
        claim = claim_of(name, config)
        heading(f"{claim.number}  {claim.title}")
        run = run_claim(name, config, runs, workers, tracking_uri, mode)
        tell(run, mode)
        say(f"page: {write_page(run, runs / FOLDER)}")
        if docs is not None:
            write_page(run, docs, patients=False)
        if mode.flip and run.stands:
            unexpected.append(f"{claim.number} {claim.title} ({', '.join(run.stands)})")
        elif not mode.flip and not run.holds:
            unexpected.append(f"{claim.number} {claim.title}")
    if docs is not None:
        known_claims = {one: claim_of(one, study_stages.read_study(one)) for one in claims()}
        write_index(known_claims | {n: claim_of(n, c) for n, c in configs.items()}, docs)
    right = len(configs) - len(unexpected)
    done = "fail without their mechanism" if mode.flip else "came out as expected"
    say(f"{right} of {len(configs)} claims {done}; {time.monotonic() - started:.0f} s")
    if unexpected and mode.flip:
        raise ClaimError(
            "claim.shown_anyway",
            f"hold although their mechanism is undone: {'; '.join(unexpected)}",
            fix="such a claim shows nothing: expect more of it, or undo what it rests on",
        )
    if unexpected:
        raise ClaimError(
            "claim.not_shown",
            f"did not come out as expected: {'; '.join(unexpected)}",
            fix="see the tables above; with few patients and seeds (--quick) chance plays a part",
        )


def run_claim(
    name: str,
    config: StudyConfig,
    runs: Path,
    workers: int | None,
    tracking_uri: str | None,
    mode: Mode = FULL,
) -> ClaimRun:
    """Run a claim's study on each of its cohorts and hold the outcome against what it expects."""
    claim = claim_of(name, config)
    config = flipped(config, claim.flip) if mode.flip else config
    recorded = claim.model_copy(update={"mode": mode.recorded})
    config = config.model_copy(update={"claim": recorded})
    shown = [] if mode.quick or mode.flip else [claim.cohorts[0], *claim.real]
    pictures: dict[str, Sequence[Drawn]] = {}
    seconds: dict[str, FitSeconds] = {}
    workspaces: dict[str, Workspace] = {}
    count = engines.workers(workers)

    def outcome(cohort: str, study: StudyConfig) -> StudyOutcome:
        workspace = open_workspace(runs, cohort)
        if mode.quick:
            cohort_config = smaller(workspace.cohort, claim.quick.patients)
            workspace = Workspace(workspace.runs, cohort_config, workspace.prep)
        workspaces[cohort] = workspace
        stages.scans_to_store(workspace, count)
        result = study_stages.run_config(workspace, study, name, count, tracking_uri)
        assert result.found is not None  # all families were asked for: no cell is pending
        if cohort in shown and claim.pictures:
            pictures[cohort] = draw_pictures(study, workspace, name)
        if cohort in pictures and cohort in claim.cohorts:  # MLflow shows no patient's scan
            keep_pictures(pictures[cohort], workspace.study(name))
            study_stages.sync_stage(workspace, name, tracking_uri)
        if claim.seconds:
            seconds[cohort] = read_fit_seconds(result.out)
        return outcome_of(study, result.found)

    def study_on(cohort: str) -> StudyConfig:
        study = narrowed(config, claim.run_on(cohort, [*map(choice_name, config.families)]))
        return quickened(study, claim.quick, claim.expected_on(cohort)) if mode.quick else study

    instead = claim.flip.cohorts if mode.flip else {}
    outcomes = {
        cohort: outcome(instead.get(cohort, cohort), study_on(cohort))
        for cohort in claim.cohorts
        if not mode.quick or claim.expected_on(cohort)
    }
    slack = claim.quick.slack if mode.quick else 0.0

    def judged(
        expected: Iterable[Expected], of: Mapping[str, StudyOutcome] = outcomes
    ) -> list[Judgement]:
        return [judge(one, of, slack=slack, significant=not mode.quick) for one in expected]

    real = {one: outcome(one, study_on(one)) for one in claim.real} if mode.real else {}
    run = ClaimRun(
        name=name,
        claim=claim,
        config=next(iter(outcomes.values())).config,
        families=_families(config, outcomes.values()),
        outcomes=outcomes,
        real=real,
        asked={one: judged(_askable(claim, found), {one: found}) for one, found in real.items()},
        judgements=judged(claim.asserted(quick=mode.quick)),
        reported=[] if mode.quick else judged(claim.report),
        pictures=pictures,
        quick=mode.quick,
        flipped=mode.flip,
        seconds=seconds,
    )
    for cohort in outcomes:
        workspace = workspaces[instead.get(cohort, cohort)]
        study_stages.held_stage(workspace, name, tracking_uri, held=run.holds)
    return run


def outcome_of(config: StudyConfig, found: Findings) -> StudyOutcome:
    """What a finished study found, as expectations look at it."""
    sizes = sorted({where.size for where in found.curves.points})
    terms = {(one.family, one.size): one.squared for one in found.decomposed}
    return StudyOutcome(config, sizes, found.curves, terms)


def _askable(claim: Claim, found: StudyOutcome) -> list[Expected]:
    """What is asked of a public cohort: all that is about families which were run on it."""
    run = set(map(choice_name, found.config.families))
    return [one for one in claim.anywhere() if {asked.family for asked in one.quantities} <= run]


def narrowed(config: StudyConfig, families: Collection[str]) -> StudyConfig:
    """The study with these of its families, and their probes, alone."""
    return config.model_copy(
        update={
            "families": tuple(one for one in config.families if choice_name(one) in families),
            "probes": {name: own for name, own in config.probes.items() if name in families},
        }
    )


def _families(config: StudyConfig, outcomes: Iterable[StudyOutcome]) -> dict[str, FamilyConfig]:
    """Those of any cohort, in the claim's order."""
    run: dict[str, FamilyConfig] = {}
    for outcome in outcomes:
        run |= read_families(outcome.config.families)
    return {name: run[name] for name in map(choice_name, config.families) if name in run}


def quickened(
    config: StudyConfig, quick: Quick, looked_at: Collection[Quantity] = ()
) -> StudyConfig:
    """The study with fewer cells and fewer steps, and no more than is needed to say these numbers;
    with none, of all its families under all its conditions.
    """
    needed = {one.family for one in looked_at} or set(map(choice_name, config.families))
    asked = {one.under for one in looked_at} or set(map(str, config.conditions))
    changed = {"batch_size": quick.batch_size, "learning_rate": quick.learning_rate}
    train = {key: value for key, value in changed.items() if value is not None}
    config = narrowed(config, needed)
    read = read_families(config.families).values()
    return config.model_copy(
        update={
            "families": tuple(
                varied(chosen, {"train": {"epochs": _QUICK_EPOCHS, "min_steps": steps, **train}})
                if (steps := quick.steps_of(choice_name(chosen))) and family.params.training
                else chosen
                for chosen, family in zip(config.families, read, strict=True)
            ),
            "conditions": tuple(one for one in config.conditions if str(one) in asked),
            "sizes": quick.sizes,
            "subsets": quick.subsets,
            "seeds": quick.seeds,
        }
    )


def smaller(cohort: CohortConfig, patients: int) -> CohortConfig:
    """The cohort with so many patients, where it is one that is generated."""
    source = cohort.source
    count = {"n_patients": patients}
    if isinstance(source, PhantomSource):
        fewer: dict[str, Config] = {"phantom": source.phantom.model_copy(update=count)}
    elif isinstance(source, SceneSource):
        fewer = {"scene": source.scene.model_copy(update=count)}
    else:
        return cohort
    return cohort.model_copy(update={"source": source.model_copy(update=fewer)})


def claim_of(name: str, config: StudyConfig) -> Claim:
    if config.claim is None:
        raise ConfigError(
            "claim.none",
            f"study '{name}' makes no claim",
            fix="add a 'claim' that says what is expected, or run it with `medcurve study`",
        )
    return config.claim


def tell(run: ClaimRun, mode: Mode) -> None:
    """Print what was expected, and what came out."""
    say(f"Undone: {run.claim.flip.says}" if mode.flip else run.claim.says)
    table(
        ("expected", "difference", "interval", "came out"),
        [
            (
                one.expectation,
                number(one.difference, "+"),
                *(spans(one.low, one.high, "+") or ["–"]),
                "as expected" if one.holds else f"NOT: {one.why}",
            )
            for one in run.judgements
        ],
    )
    for why in untold(run.judgements):
        say(f"  note: –, no interval: {why}")
