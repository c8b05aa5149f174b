"""What every room may use: errors, files, signals, processes, user code."""

from typing import TYPE_CHECKING

from .lazy import lazy_exports

if TYPE_CHECKING:
    from .atomic_files import atomic_replacement as atomic_replacement
    from .atomic_files import file_named_in_errors as file_named_in_errors
    from .atomic_files import sync as sync
    from .atomic_files import write_json as write_json
    from .atomic_files import write_text as write_text
    from .docstrings import argument_docstrings as argument_docstrings
    from .docstrings import as_sentence as as_sentence
    from .docstrings import field_docstrings as field_docstrings
    from .docstrings import functions_in as functions_in
    from .docstrings import keys_of as keys_of
    from .docstrings import one_line as one_line
    from .docstrings import summary_of as summary_of
    from .early_signals import STOP_SIGNALS as STOP_SIGNALS
    from .early_signals import EndedBySignal as EndedBySignal
    from .early_signals import end_at_signals as end_at_signals
    from .early_signals import received_signals as received_signals
    from .early_signals import signal_name as signal_name
    from .early_signals import take_signals as take_signals
    from .errors import STOPPED as STOPPED
    from .errors import DamagedError as DamagedError
    from .errors import DivergedError as DivergedError
    from .errors import HangError as HangError
    from .errors import LockstepError as LockstepError
    from .errors import MachineError as MachineError
    from .errors import MemoryLimitError as MemoryLimitError
    from .errors import RankLostError as RankLostError
    from .errors import TrainingError as TrainingError
    from .errors import UsageError as UsageError
    from .errors import error_from_json as error_from_json
    from .errors import error_of_status as error_of_status
    from .file_hash import file_sha256 as file_sha256
    from .os_errors import disk_full_error as disk_full_error
    from .os_errors import os_error_for_users as os_error_for_users
    from .os_hints import DISK_FULL_ERRNOS as DISK_FULL_ERRNOS
    from .os_hints import is_disk_full as is_disk_full
    from .os_hints import open_files_hint as open_files_hint
    from .os_hints import os_error_hint as os_error_hint
    from .os_hints import path_hint as path_hint
    from .parent_answer import answer_parent as answer_parent
    from .parent_death import die_with as die_with
    from .parent_death import die_with_parent as die_with_parent
    from .parent_death import outlive_parent as outlive_parent
    from .processes import Process as Process
    from .processes import all_pids as all_pids
    from .processes import boot_id as boot_id
    from .processes import children as children
    from .processes import descendants as descendants
    from .processes import process_name as process_name
    from .processes import process_of as process_of
    from .processes import process_start_time as process_start_time
    from .processes import read_proc as read_proc
    from .processes import read_proc_stat as read_proc_stat
    from .processes import thread_ids as thread_ids
    from .processes import user_name as user_name
    from .signals import held_back as held_back
    from .signals import ignore_stop_signals as ignore_stop_signals
    from .signals import let_in as let_in
    from .signals import shelter_worker as shelter_worker
    from .signals import stop_signals_blocked_if_supervised as stop_signals_blocked_if_supervised
    from .suggest import closest_name as closest_name
    from .suggest import suggestion as suggestion
    from .user_code import load_callable as load_callable
    from .user_code import load_module as load_module
    from .user_code import load_user_function as load_user_function
    from .user_code import module_name_for_users as module_name_for_users
    from .user_code import raised as raised
    from .user_code import raised_at_its_line as raised_at_its_line
    from .user_code import relative_path_hint as relative_path_hint
    from .user_code import with_path_hint as with_path_hint
    from .user_frames import StackFrame as StackFrame
    from .user_frames import definition_location as definition_location
    from .user_frames import is_user_code as is_user_code
    from .user_frames import user_frame as user_frame
    from .user_frames import user_location as user_location
else:
    __getattr__ = lazy_exports(__name__)
