"""MLflow as a view of the journal; no other module of medcurve imports mlflow.

MLflow takes about a second to import, so it is imported when a function first needs it.
"""

from pipeline.tracking.cell_run import CellRun, find_cell_run
from pipeline.tracking.claim_held import mark_held
from pipeline.tracking.client import TrackingError, default_uri, prepare_store, public
from pipeline.tracking.predictions import log_predictions
from pipeline.tracking.registry import (
    Registered,
    download_model,
    log_evaluation,
    pin_model,
    register_package,
)
from pipeline.tracking.served import SERVED
from pipeline.tracking.sync import SyncReport, sync_study
from pipeline.tracking.ui import serve_ui

__all__ = [
    "SERVED",
    "CellRun",
    "Registered",
    "SyncReport",
    "TrackingError",
    "default_uri",
    "download_model",
    "find_cell_run",
    "log_evaluation",
    "log_predictions",
    "mark_held",
    "pin_model",
    "prepare_store",
    "public",
    "register_package",
    "serve_ui",
    "sync_study",
]
