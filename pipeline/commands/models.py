"""Commands about one model: made, looked at, used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.hospital import (
    ArchiveQuery,
    DicomWeb,
    MaxGb,
    MostStudies,
    PlainHttp,
    StoreBack,
    archive_request,
)
from pipeline.commands.options import (
    RUNS,
    Address,
    DataOption,
    EngineName,
    EngineOption,
    Explain,
    ExplainedScans,
    ExplainOnly,
    ExportFormat,
    JudgedBy,
    Model,
    Prep,
    RayWorkers,
    RuleChoice,
    Runs,
    RuntimeName,
    ShiftAction,
    SplitName,
    StudyName,
    Twin,
    Uri,
    Workers,
    extra_options,
    ray_address,
    refuse_unreadable,
)
from pipeline.wait_policy import let_threads_sleep


def train(
    family: Annotated[str, typer.Argument(help="A name in configs/family, or a YAML file.")],
    data: DataOption,
    prep: Prep = None,
    seed: Annotated[int, typer.Option(help="Decides initial weights and batch order.")] = 0,
    twin: Twin = True,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Train one family on all training patients and package the model.

    Example: medcurve train random_features --data breastmnist
    """
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, data, prep)
    refuse_unreadable("family", family)
    from pipeline import export_stage, study_stages

    model = study_stages.train_stage(workspace, family, seed, tracking_uri)
    if twin:
        export_stage.twin_stage(model)


def inspect(
    family: Annotated[str, typer.Argument(help="A name in configs/family, or a YAML file.")],
    shape: Annotated[str, typer.Option("--shape", help="Of one scan: channels, then axes.")] = (
        "1,28,28"
    ),
    classes: Annotated[int, typer.Option("--classes", min=2, help="Classes to tell apart.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Drawing (.svg, .png or .pdf); default: RUNS/inspect-FAMILY.svg."
        ),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Show what a family is made of: layers, sizes, costs and receptive fields.

    Example: medcurve inspect resnet18 --shape 1,28,28
    """
    from pipeline import network_stages

    refuse_unreadable("family", family)
    network_stages.inspect_stage(family, shape, classes, out, runs)


def screen(
    families: Annotated[list[str], typer.Argument(help="Names in configs/family, or YAML files.")],
    data: DataOption,
    prep: Prep = None,
    seeds: Annotated[int, typer.Option(min=1, help="Random networks drawn of each.")] = 3,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also train each, and compare the two rankings.")
    ] = False,
    runs: Runs = RUNS,
) -> None:
    """Rank network architectures in seconds each, by what they do with random weights.

    Example: medcurve screen cnn_scratch cnn_scratch_small resnet18 --data breastmnist
    """
    from pipeline import network_stages
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, data, prep)
    refuse_unreadable("family", *families)
    network_stages.screen_stage(workspace, families, seeds, verify)


def probe(
    name: Annotated[str, typer.Argument(help="A probe of docs/probes.md, or a YAML file.")],
    model: Annotated[
        str,
        typer.Argument(help="Folder of a model, or a family in configs/family (first weights)."),
    ],
    data: DataOption,
    prep: Prep = None,
    split: Annotated[
        SplitName, typer.Option("--split", help="Whose scans it looks at.")
    ] = SplitName.TEST,
    seed: Annotated[int, typer.Option(min=0, help="Decides all that is random.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder; default: RUNS/COHORT/probe-NAME-MODEL."),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Measure and draw what a network does with scans: shifts, borders, filters, attacks.

    Example: medcurve probe equivariance cnn_scratch --data breastmnist
    """
    from pipeline import network_stages
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, data, prep)
    network_stages.probe_stage(workspace, name, model, seed, split.value, out)


def release(
    name: StudyName,
    data: DataOption,
    prep: Prep = None,
    rule: Annotated[
        RuleChoice | None,
        typer.Option(
            "--rule",
            metavar="RULE",
            help="best or one_standard_error of validation scores; default: the study's.",
        ),
    ] = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Fit the chosen family on validation patients as well."),
    ] = False,
    twin: Twin = True,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Choose a model by the study's declared rule, package it and register it.

    Example: medcurve release demo --data phantom3d
    """
    from pipeline import export_stage, model_stages
    from pipeline.study_folders import refuse_absent_study
    from pipeline.workspace import open_workspace

    workspace = open_workspace(runs, data, prep)
    refuse_absent_study(workspace, "release", name, data)
    model = model_stages.release_stage(
        workspace, name, tracking_uri, rule.value if rule else None, refit=refit
    )
    if twin:
        export_stage.twin_stage(model)


def predict(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Folder for the predictions.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files and folders of scans, a cohort's manifest, or - for a list on "
            "standard input."
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Scans in memory at once.")
    ] = 64,
    engine: EngineOption = EngineName.LOCAL,
    address: Address = None,
    runs: Runs = RUNS,
    workers: RayWorkers = None,
    on_shift: Annotated[
        ShiftAction | None,
        typer.Option(
            "--on-shift",
            metavar="ACTION",
            help="flag, abstain or refuse: what to do with scans unlike the training scans; "
            "default: as released.",
        ),
    ] = None,
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom", help="Also write a structured report and a picture of each DICOM scan."
        ),
    ] = False,
    gallery: Annotated[
        bool,
        typer.Option(
            "--gallery/--no-gallery", help="Also write gallery.html, to look through the scans."
        ),
    ] = True,
    dicomweb: DicomWeb = None,
    query: ArchiveQuery = None,
    most: MostStudies = 100,
    max_gb: MaxGb = 50.0,
    store: StoreBack = False,
    plain_http: PlainHttp = False,
    runtime: Annotated[
        RuntimeName,
        typer.Option(
            "--runtime",
            metavar="NAME",
            help="torch, onnx (the package's ONNX twin), or auto: what the export found faster.",
        ),
    ] = RuntimeName.AUTO,
    explain: Explain = None,
    explain_only: ExplainOnly = ExplainedScans.ALL,
    tracking_uri: Uri = None,
) -> None:
    """Run a model over folders of scans: one row for each, a bad scan never stops it.

    Example: medcurve predict runs/phantom3d/model-demo scans/ --out predictions
    """
    let_threads_sleep()
    from pipeline import model_stages

    options = model_stages.BatchOptions(
        batch_size=batch_size,
        processes=workers,
        ray=ray_address(engine, address),
        on_shift=on_shift.value if on_shift else None,
        runtime=runtime.value,
        extras=extra_options(explain, explain_only, dicom=dicom or store, gallery=gallery),
    )

    def score(scans: Sequence[Path]) -> None:
        model_stages.predict_stage(model, scans, out, options, runs, tracking_uri)

    archive = archive_request(dicomweb, query, most, max_gb, inputs, store=store, plain=plain_http)
    model_stages.refuse_unusable(model, inputs or [], out, "predict")
    if archive:
        from pipeline import hospital_stages

        hospital_stages.archive_stage(archive, out, score)
    else:
        score(inputs or [])


def evaluate(
    model: Model,
    data: JudgedBy = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: RUNS/COHORT/evaluation-MODEL.")
    ] = None,
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Judge a model by a cohort's labelled test scans: a page, a model card and all numbers.

    Example: medcurve evaluate runs/breastmnist/model-demo
    """
    from pipeline import engines
    from pipeline.trust_stages import evaluate_stage

    evaluate_stage(model, data, out, engines.workers(workers), runs, tracking_uri)


def audit(
    model: Model,
    data: JudgedBy = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: RUNS/COHORT/audit-MODEL.")
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="auc, accuracy, balanced_accuracy, brier or log_loss.")
    ] = "auc",
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Shift the test scans in every way that scanners do; name the most dangerous shifts.

    Example: medcurve audit runs/breastmnist/model-demo
    """
    from pipeline import engines
    from pipeline.trust_stages import audit_stage

    audit_stage(model, data, out, metric, engines.workers(workers), runs, tracking_uri)


def explain(
    model: Model,
    inputs: Annotated[list[Path], typer.Argument(help="Files and folders of scans.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for maps and pictures.")],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="grad_cam, occlusion, integrated_gradients or all; default: the first of these "
            "that the model has.",
        ),
    ] = None,
    target_class: Annotated[
        str | None,
        typer.Option("--class", help="Evidence for which class; default: the most probable one."),
    ] = None,
    runs: Runs = RUNS,
    workers: Workers = None,
    tracking_uri: Uri = None,
) -> None:
    """Show where in each scan an answer comes from: maps in the scan's own space, and pictures.

    Example: medcurve explain runs/phantom3d/model-demo scans/ --out explanations
    """
    from pipeline import engines
    from pipeline.trust_stages import explain_stage

    count = engines.workers(workers)
    explain_stage(model, inputs, out, method, target_class, count, runs, tracking_uri)


def export(
    model: Model,
    to: Annotated[
        ExportFormat,
        typer.Option("--to", metavar="FORMAT", help="onnx, torch-export or monai-bundle."),
    ] = ExportFormat.ONNX,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; default: MODEL/FORMAT, the model's own.")
    ] = None,
    scans: Annotated[
        list[Path] | None,
        typer.Option("--scans", help="Scans to compare both on; default: made-up ones."),
    ] = None,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Write a model for other programs, and check that it gives the same answers there.

    Example: medcurve export runs/phantom3d/model-demo --to onnx
    """
    from pipeline.export_stage import export_stage

    export_stage(model, to.value, out, scans or [], runs, tracking_uri)


def verify(model: Model, runs: Runs = RUNS, tracking_uri: Uri = None) -> None:
    """Check that a model package is whole and still gives the same probabilities.

    Example: medcurve verify runs/phantom3d/model-demo
    """
    from pipeline.model_stages import verify_stage

    verify_stage(model, runs, tracking_uri)
