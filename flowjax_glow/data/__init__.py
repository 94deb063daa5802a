"""Images: where they come from, and the batch of any training step."""

from flowjax_glow.data.batches import batch_at
from flowjax_glow.data.sources import info, load
from flowjax_glow.data.split import Info, Split

__all__ = ["Info", "Split", "batch_at", "info", "load"]
