"""Records: what a run leaves on disk, who works on it, and by which code it was trained."""

from paper_repro.records.record import (
    DataInfo,
    MetricsLine,
    Record,
    RunInfo,
    Status,
)

__all__ = ["DataInfo", "MetricsLine", "Record", "RunInfo", "Status"]
