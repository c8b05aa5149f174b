"""Everything that is printed: messages, progress, the failure card."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .console import bounded as bounded
    from .console import can_colour as can_colour
    from .console import last_state as last_state
    from .console import print_explained as print_explained
    from .console import print_json as print_json
    from .console import print_messages as print_messages
    from .console import print_page as print_page
    from .console import print_results as print_results
    from .console import redraw as redraw
    from .console import strip_control_characters as strip_control_characters
    from .console import terminal_width as terminal_width
    from .console import transcribe_to as transcribe_to
    from .error_boundary import json_errors as json_errors
    from .error_boundary import run_with_failure_card as run_with_failure_card
    from .event_notes import note_line as note_line
    from .failure_card import last_card as last_card
    from .failure_card import print_failure_card as print_failure_card
    from .failure_card import read_card as read_card
    from .formats import format_duration as format_duration
    from .formats import format_metric as format_metric
    from .formats import sparkline as sparkline
    from .line_merger import WINDOW as WINDOW
    from .line_merger import LineMerger as LineMerger
    from .line_merger import describe_ranks as describe_ranks
    from .line_merger import format_ranks as format_ranks
    from .line_merger import merge_lines as merge_lines
    from .optional_writes import best_effort as best_effort
    from .output_file import PICTURES as PICTURES
    from .output_file import new_file as new_file
    from .output_file import put_in_place as put_in_place
    from .output_file import refuse_output as refuse_output
    from .output_file import temporary_file as temporary_file
    from .progress import EpochTable as EpochTable
    from .progress_view import ProgressView as ProgressView
    from .run_progress import RunShape as RunShape
else:
    __getattr__ = lazy_exports(__name__)
