"""Errors, files, signals and user code: what every room needs, and what needs no other room."""

from typing import TYPE_CHECKING

from .lazy import lazy_exports

if TYPE_CHECKING:
    from .atomic_files import in_place_of as in_place_of
    from .atomic_files import naming as naming
    from .atomic_files import write_json as write_json
    from .atomic_files import write_text as write_text
    from .disk_space import FULL as FULL
    from .disk_space import full_disk as full_disk
    from .disk_space import is_full as is_full
    from .errors import STOPPED as STOPPED
    from .errors import DamagedError as DamagedError
    from .errors import HangError as HangError
    from .errors import LockstepError as LockstepError
    from .errors import MachineError as MachineError
    from .errors import MemoryLimitError as MemoryLimitError
    from .errors import RankLostError as RankLostError
    from .errors import TrainingError as TrainingError
    from .errors import UsageError as UsageError
    from .errors import error_from_json as error_from_json
    from .errors import error_of_status as error_of_status
    from .parent_death import die_with_parent as die_with_parent
    from .signals import held_back as held_back
    from .signals import leave_to_supervisor as leave_to_supervisor
    from .signals import let_in as let_in
    from .signals import shelter_worker as shelter_worker
    from .signals import sheltered as sheltered
    from .suggest import did_you_mean as did_you_mean
    from .suggest import meant as meant
    from .user_code import _own as _own
    from .user_code import load_callable as load_callable
    from .user_code import place_of_paths as place_of_paths
    from .user_code import raised as raised
    from .user_frames import Frame as Frame
    from .user_frames import is_of_people as is_of_people
    from .user_frames import place_in as place_in
    from .user_frames import place_of as place_of
    from .user_frames import place_of_code as place_of_code
else:
    __getattr__ = lazy_exports(__name__)
