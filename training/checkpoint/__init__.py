"""How a checkpoint is laid out, written, verified, read and pruned."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import rank_buffers as rank_buffers
    from .background_writer import CheckpointWriter as CheckpointWriter
    from .background_writer import wait_for_checkpoint as wait_for_checkpoint
    from .initial_weights import load_frozen_weights as load_frozen_weights
    from .initial_weights import load_initial_weights as load_initial_weights
    from .layout import MANIFEST_FILE as MANIFEST_FILE
    from .layout import checkpoint_path as checkpoint_path
    from .layout import checkpoints_folder as checkpoints_folder
    from .layout import list_checkpoints as list_checkpoints
    from .layout import step_of as step_of
    from .layout import tensor_file as tensor_file
    from .layout import weight_files as weight_files
    from .manifest import is_in_place as is_in_place
    from .manifest import newest_checkpoint_step as newest_checkpoint_step
    from .manifest import newest_intact as newest_intact
    from .manifest import read_manifest as read_manifest
    from .manifest import read_state as read_state
    from .manifest import verify as verify
    from .model_weights import load_weights as load_weights
    from .retention import BestCheckpoints as BestCheckpoints
    from .state import NextWorld as NextWorld
    from .state import Progress as Progress
    from .state import ResumedState as ResumedState
    from .state import StepsDone as StepsDone
    from .state import build_state as build_state
    from .state import restore as restore
    from .state import resumed_state as resumed_state
    from .state import save as save
    from .state import training_hashes as training_hashes
    from .state import training_tensors as training_tensors
    from .state import writing_ranks as writing_ranks
    from .storage import StoredCheckpoint as StoredCheckpoint
    from .storage import load_safetensors as load_safetensors
    from .storage import open_checkpoint as open_checkpoint
    from .storage import open_newest as open_newest
    from .storage import read_all as read_all
    from .storage import tensors_sha256 as tensors_sha256
else:
    __getattr__ = lazy_exports(__name__)
