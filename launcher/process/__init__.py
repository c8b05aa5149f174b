"""Process trees, /proc, file locks, stacks."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import proc_stats as proc_stats
    from . import process_tree as process_tree
    from .file_lock import Owner as Owner
    from .file_lock import boot_id as boot_id
    from .file_lock import is_held as is_held
    from .file_lock import myself as myself
    from .file_lock import process_name as process_name
    from .file_lock import read_owner as read_owner
    from .file_lock import start_of as start_of
    from .file_lock import take as take
    from .file_lock import write_owner as write_owner
    from .process_tree import Process as Process
    from .process_tree import become_subreaper as become_subreaper
    from .process_tree import descendants as descendants
    from .process_tree import end_all as end_all
    from .process_tree import process_of as process_of
    from .process_tree import reap as reap
    from .stack_dumps import OUT_OF_THE_WAY as OUT_OF_THE_WAY
    from .stack_dumps import Dump as Dump
    from .stack_dumps import answer_requests as answer_requests
    from .stack_dumps import stack_file as stack_file
    from .stack_dumps import tidy as tidy
    from .umask import be_private as be_private
    from .umask import of_the_user as of_the_user
else:
    __getattr__ = lazy_exports(__name__)
