"""The tasks of the README, for Celery."""

import os
import pathlib

from celery import Celery
from celery.signals import worker_process_init

from scan_pipeline import EngineError, InfectedError, Limits, ScanTimeout, UnscannableError
from scan_pipeline.celery import Scanning

app = Celery("uploads", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
scanning = Scanning(app, definitions=os.environ["DEFINITIONS"], limits=Limits(max_file_size=1 << 20))

loaded_before_the_fork = False


@worker_process_init.connect
def look(**_: object) -> None:
    global loaded_before_the_fork
    loaded_before_the_fork = scanning._scanner is not None


@app.task(
    throws=(InfectedError, UnscannableError),
    autoretry_for=(EngineError, ScanTimeout),
    retry_backoff=True,
    max_retries=5,
)
def scan_upload(path: str) -> dict[str, object]:
    report = scanning.scan(pathlib.Path(path))
    report.raise_for_verdict()
    return {"status": report.verdict.status, "pid": os.getpid(), "loaded_before": loaded_before_the_fork}
