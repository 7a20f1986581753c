"""What has to do with a hospital's systems: the listener, and options that ask an archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from data_prep.errors import ConfigError
from pipeline.commands.options import (
    RUNS,
    Explain,
    ExplainedScans,
    ExplainOnly,
    Model,
    Runs,
    ShiftAction,
    Uri,
    Workers,
    extra_options,
)
from pipeline.wait_policy import let_threads_sleep

if TYPE_CHECKING:
    from pipeline.hospital_stages import ArchiveRequest

# Groups in the commands' help.
_PANEL: Final = "Scans of an archive"
_TLS: Final = "Encryption"
DicomWeb = Annotated[
    str | None,
    typer.Option(
        "--dicomweb",
        help="In place of paths: URL of an archive, that under which /studies lies.",
        rich_help_panel=_PANEL,
    ),
]
ArchiveQuery = Annotated[
    list[str] | None,
    typer.Option(
        "--query",
        help="Which scans: KEY=VALUE, such as ModalitiesInStudy=CT.",
        rich_help_panel=_PANEL,
    ),
]
MostStudies = Annotated[
    int,
    typer.Option(
        "--most",
        metavar="N",
        min=1,
        help="Studies; a query that finds more stops.",
        rich_help_panel=_PANEL,
    ),
]
MaxGb = Annotated[
    float,
    typer.Option(
        "--max-gb",
        metavar="GB",
        min=0.001,
        help="Fetched at most; more stops.",
        rich_help_panel=_PANEL,
    ),
]
StoreBack = Annotated[
    bool,
    typer.Option(
        "--store",
        help="Store reports and pictures in the archive.",
        rich_help_panel=_PANEL,
    ),
]
PlainHttp = Annotated[
    bool,
    typer.Option(
        "--plain-http",
        help="Accept an archive on another machine without TLS.",
        rich_help_panel=_PANEL,
    ),
]


def archive_request(
    url: str | None,
    queries: Sequence[str] | None,
    most: int,
    max_gb: float,
    inputs: Sequence[Path] | None,
    *,
    store: bool,
    plain: bool,
) -> ArchiveRequest | None:
    """What is asked of an archive; None where scans are given by path.

    Raises:
        ConfigError: ``config.no_inputs`` where neither is given, ``config.two_inputs`` where both
            are, ``config.archive_without_url`` for an option that only an archive has.
    """
    if url is None:
        given = {"--query": queries, "--store": store, "--plain-http": plain}
        if lone := [name for name, value in given.items() if value]:
            raise ConfigError(
                "config.archive_without_url",
                f"{lone[0]} is about an archive, and there is no --dicomweb",
                fix="add --dicomweb URL",
            )
        if not inputs:
            raise ConfigError(
                "config.no_inputs",
                "no scans are given",
                fix="give files and folders, or an archive by --dicomweb URL",
            )
        return None
    if inputs:
        raise ConfigError(
            "config.two_inputs",
            "scans are given both as paths and by --dicomweb",
            fix="score them in two runs, each with its own --out",
        )
    from pipeline.hospital_stages import ArchiveRequest

    return ArchiveRequest(url, tuple(queries or ()), most, int(max_gb * (1 << 30)), store, plain)


def listen(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="Folder for each study's predictions.")],
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0: any that is free.")
    ] = 11112,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; default: this machine only.")
    ] = "127.0.0.1",
    plain: Annotated[
        bool,
        typer.Option(
            "--plain-dicom",
            help="Accept senders on other machines without TLS.",
            rich_help_panel=_TLS,
        ),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            "--tls-cert",
            help="PEM file of this listener's certificate; all is encrypted then.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            "--tls-key",
            help="PEM file of its private key; default: in --tls-cert.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            "--tls-ca",
            help="PEM file of who signs senders' certificates; default: they need none.",
            rich_help_panel=_TLS,
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="AE title of this listener.")] = "MEDCURVE",
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="AE title that may send; give it once for each."),
    ] = None,
    quiet: Annotated[
        float, typer.Option(metavar="S", min=0.1, help="Seconds without objects that end a study.")
    ] = 30.0,
    max_gb: Annotated[
        float, typer.Option("--max-gb", metavar="GB", min=0.001, help="On disk; more is refused.")
    ] = 20.0,
    max_objects: Annotated[
        int,
        typer.Option("--max-objects", metavar="N", min=1, help="On disk; more are refused."),
    ] = 100_000,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Also write a report and a picture of each scan.")
    ] = False,
    gallery: Annotated[
        bool, typer.Option("--gallery/--no-gallery", help="Also write gallery.html of each study.")
    ] = True,
    on_shift: Annotated[
        ShiftAction | None,
        typer.Option(
            "--on-shift",
            metavar="ACTION",
            help="flag, abstain or refuse: what to do with scans unlike the training scans; "
            "default: as released.",
        ),
    ] = None,
    explain: Explain = None,
    explain_only: ExplainOnly = ExplainedScans.ALL,
    workers: Workers = None,
    runs: Runs = RUNS,
    tracking_uri: Uri = None,
) -> None:
    """Score the studies that others send by C-STORE, each once it has come to rest.

    Example: medcurve listen runs/ct/model-demo --out inbox --allow SCANNER1
    """
    let_threads_sleep()
    from pipeline import hospital_stages
    from pipeline.pacs.settings import Address, ListenConfig, check_address
    from pipeline.pacs.tls import tls_files

    address = Address(
        host, port, title, tuple(allow or ()), tls=tls_files(tls_cert, tls_key, tls_ca)
    )
    check_address(address, plain=plain)
    config = ListenConfig(address, quiet, int(max_gb * (1 << 30)), max_objects)
    hospital_stages.listen_stage(
        model,
        out,
        config,
        workers,
        runs,
        tracking_uri,
        options=extra_options(explain, explain_only, dicom=dicom, gallery=gallery),
        on_shift=on_shift.value if on_shift else None,
    )
