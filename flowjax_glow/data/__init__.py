"""Images and vectors: where they come from, and the batch of any training step."""

from flowjax_glow.data.batches import batch_at
from flowjax_glow.data.sources import attributes, info, load
from flowjax_glow.data.split import Column, Info, Split
from flowjax_glow.data.toys import log_density

__all__ = ["Column", "Info", "Split", "attributes", "batch_at", "info", "load", "log_density"]
