"""Every field of a config, with its default; an experiment's file sets what differs."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from flowjax_glow.training.config import Config


def get_config() -> Config:
    """A Glow, trained by Adam with warm-up and cosine decay, evaluated on its averaged weights."""
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"  # images: or "photos", "folder", any of TFDS; vectors: "moons", "table"
    config.data.path = placeholder(str)  # of the "folder" of images, or the "table", .csv or .parquet
    config.data.build = placeholder(str)  # of the set, which must be this; a run takes what it finds
    config.data.data_dir = placeholder(str)  # of prepared sets; ~/tensorflow_datasets by default
    config.data.download = False  # whether TFDS may download a set that is not prepared
    config.data.image_size = placeholder(int)  # pixels a side; None: as the set has it
    config.data.channels = placeholder(int)  # 1 or 3; None: as the set has it
    config.data.train_examples = placeholder(int)  # drawn of a density in the plane; 20,000 by default
    config.data.valid_examples = placeholder(int)  # held out of train where a set has no valid
    config.data.n_bits = 8  # fewer reduce 8-bit pixels to 2^n_bits levels
    config.data.flip = False  # mirror half of the training images
    config.data.shift = 0.0  # move training images by up to this share of their size

    # The model's name, and its hyperparameters: for another model than Glow, a whole other ConfigDict.
    config.model = ConfigDict()
    config.model.name = "glow"
    config.model.levels = 3
    config.model.depth = 32
    config.model.width = 512
    config.model.coupling = "affine"
    config.model.permutation = "conv1x1"
    config.model.learn_top = True
    config.model.edge_bias = True
    config.model.num_classes = placeholder(int)  # conditions the top prior on the label
    config.model.dropout = 0.0
    config.model.dtype = placeholder(str)  # of the conditioners: "bfloat16"; None for float32
    config.model.memory = "stored"  # or "recompute", or "constant": activations rebuilt, not kept

    # "uniform", or "variational" with the hyperparameters of models.dequantization_flow beside it.
    config.dequantization = ConfigDict({"name": "uniform"})

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.schedule = "cosine"  # or "constant", after the warm-up
    config.optimizer.warmup_steps = 500
    config.optimizer.weight_decay = 0.0  # decoupled
    config.optimizer.clip_norm = 50.0
    config.optimizer.running_momentum = 0.9  # of batch norms' running statistics; all else skips them

    config.train = ConfigDict()
    config.train.steps = 10_000
    config.train.batch_size = 64  # global
    config.train.init_examples = 256  # for the data-dependent initialisation
    config.train.accumulate = 1  # microbatches a step, one after the other on each device
    config.train.steps_per_call = 1  # steps in one device call; spares small models its overhead
    config.train.average_decay = 0.999
    config.train.log_every = 50
    config.train.eval_every = 500

    config.parallel = ConfigDict()
    config.parallel.driver = "shard_map"  # or "pmap", "jit"
    config.parallel.fsdp = 1  # devices that share one copy of params, optimizer state and average
    config.parallel.distributed = False  # whether this is one of several processes; experiments/launch

    config.eval = ConfigDict()
    config.eval.weights = "average"  # or "raw"
    config.eval.draws = 16  # for each example, of the dequantization noise and of what else is random
    config.eval.importance = 1  # K: samples of the noise in the bound of a draw; goes with the number
    config.eval.samples = 1_000  # drawn at temperature 1.0, to see whether they are finite
    config.eval.batch_size = 256
    return config


def finish(config: Config, mode: str, **smoke: Any) -> Config:
    """The config as it is, or with mode "smoke" (`--config=FILE.py:smoke`) shrunk to seconds.

    smoke: the model's hyperparameters in that mode, such as depth=2, width=8.
    """
    if mode not in ("", "smoke"):
        raise ValueError(f"the config's argument must be 'smoke' or nothing; got {mode!r}")
    if mode == "smoke":
        unknown = smoke.keys() - config.model.keys()
        if unknown:
            raise ValueError(f"smoke must change fields of config.model; got {sorted(unknown)}")
        config.model.update(smoke)
        config.train.steps, config.train.batch_size, config.train.init_examples = 4, 8, 16
        config.train.log_every, config.train.eval_every = 1, 2
        config.train.steps_per_call = config.train.accumulate = 1
        config.optimizer.warmup_steps = 1
        config.eval.draws, config.eval.samples, config.eval.batch_size = 2, 32, 128
    return config
