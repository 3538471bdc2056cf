"""Was a direction taken out of a checkpoint's weights? Told from the difference to its base, shard by shard."""

from refusal_lens.tamper.checkpoints import Checkpoint, open_checkpoint
from refusal_lens.tamper.comparing import Comparison, compare
from refusal_lens.tamper.removal import Removal, find_removals

__all__ = ["Checkpoint", "Comparison", "Removal", "compare", "find_removals", "open_checkpoint"]
