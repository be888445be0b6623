"""Records: what a run leaves on disk."""

from paper_repro.records.record import (
    SIZES,
    LeadersRecord,
    Outcome,
    Record,
    Size,
    record_of,
    sized_name,
)

__all__ = ["SIZES", "LeadersRecord", "Outcome", "Record", "Size", "record_of", "sized_name"]
