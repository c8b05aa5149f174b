"""The record of a run, metrics.jsonl, and the trackers that are fed from it."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import feeder as feeder
    from .curves import Curve as Curve
    from .event_log import EventLog as EventLog
    from .event_log import EventLogTail as EventLogTail
    from .event_log import events_backwards as events_backwards
    from .event_log import parse_event as parse_event
    from .event_log import plain as plain
    from .event_log import read_events as read_events
    from .feeder_processes import FeederProcesses as FeederProcesses
    from .rewinding import rewind as rewind
    from .rewinding import rows_logged as rows_logged
    from .run_record import RunRecord as RunRecord
    from .run_record import panels as panels
    from .run_record import read_record as read_record
else:
    __getattr__ = lazy_exports(__name__)
