"""Documents packed into samples of one length: token files, and the samples that are cut from them."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .documents import Tokenizer as Tokenizer
    from .documents import contents_hash as contents_hash
    from .documents import raw_documents as raw_documents
    from .packed_rows import PackedRows as PackedRows
    from .packed_rows import packed_length as packed_length
    from .token_files import ENDS as ENDS
    from .token_files import PACKING_ALGORITHM as PACKING_ALGORITHM
    from .token_files import TOKENS as TOKENS
    from .token_files import store_tokens as store_tokens
else:
    __getattr__ = lazy_exports(__name__)
