"""Process trees, resource use from /proc, file locks, stack dumps."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import proc_stats as proc_stats
    from . import process_tree as process_tree
    from .child_answer import ask_child as ask_child
    from .file_lock import is_held as is_held
    from .file_lock import try_lock as try_lock
    from .lock_owner import LockOwner as LockOwner
    from .lock_owner import current_owner as current_owner
    from .lock_owner import read_owner as read_owner
    from .lock_owner import write_owner as write_owner
    from .output_marks import Mark as Mark
    from .output_marks import MarkedStream as MarkedStream
    from .output_marks import allow_marks as allow_marks
    from .output_marks import last_words as last_words
    from .process_tree import become_subreaper as become_subreaper
    from .process_tree import kill_processes as kill_processes
    from .process_tree import reap as reap
    from .stack_dumps import STACK_SIGNAL as STACK_SIGNAL
    from .stack_dumps import StackDump as StackDump
    from .stack_dumps import duplicate_high as duplicate_high
    from .stack_dumps import install_stack_handler as install_stack_handler
    from .stack_dumps import remove_dumps as remove_dumps
    from .stack_dumps import remove_unused_dumps as remove_unused_dumps
    from .stack_dumps import stack_file as stack_file
    from .umask import set_private_umask as set_private_umask
    from .umask import user_umask as user_umask
else:
    __getattr__ = lazy_exports(__name__)
