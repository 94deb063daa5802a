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
    # Images: "digits", "photos", "cartoon_faces", "folder", any of TFDS; vectors: "moons", "table".
    config.data.name = "digits"
    config.data.build = placeholder(str)  # imagenet32, imagenet64: "oord2016" or "downsampled2017"
    config.data.version = placeholder(str)  # of the set, which must be this; a run takes what it finds
    config.data.path = placeholder(str)  # of the "folder" of images, or the "table", .csv or .parquet
    config.data.data_dir = placeholder(str)  # of prepared sets; ~/tensorflow_datasets by default
    config.data.download = False  # whether TFDS may download a set that is not prepared
    config.data.memory_gib = 4.0  # larger splits are read from the disk, batch by batch
    config.data.crop = placeholder(int)  # the middle of each image, this many pixels a side, before all
    config.data.image_size = placeholder(int)  # pixels a side to resize to; None: as the set has it
    config.data.pad = 0  # pixels of zeros on every side
    config.data.channels = placeholder(int)  # 1 or 3, grey is repeated; None: as the set has it
    config.data.random_crop = placeholder(int)  # pixels a side, at random to train on, else the middle
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
    config.optimizer.name = "adam"  # or "adamax", as released with Glow, or "rmsprop", with NICE
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = 0.9  # of rmsprop: the momentum, ...
    config.optimizer.momentum_start = 0  # ... which it has from this step on
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8  # of rmsprop: the smallest divisor
    config.optimizer.schedule = "cosine"  # or "constant", "decay", after the warm-up
    config.optimizer.warmup_examples = 32_000  # of a linear warm-up from 0
    config.optimizer.final_learning_rate = 0.0  # that cosine and decay come down to
    config.optimizer.decay_rate = 1.0  # decay: times this ...
    config.optimizer.decay_steps = 1  # ... every so many steps
    config.optimizer.weight_decay = 0.0  # decoupled: the learning rate times this
    config.optimizer.magnitude_l2 = 0.0  # times the sum of squared weight-norm magnitudes, in the loss
    # Of the gradient before all else. D log 2 makes that of bits/dim into that of nats an image, which
    # some releases descend: clip_norm, eps and magnitude_l2 are in its unit.
    config.optimizer.gradient_scale = 1.0
    config.optimizer.clip_norm = 50.0  # math.inf does not clip
    config.optimizer.running_momentum = 0.9  # of batch norms' running statistics; all else skips them

    config.train = ConfigDict()
    config.train.steps = 10_000
    config.train.batch_size = 64  # global
    config.train.init_examples = 256  # for the data-dependent initialisation
    config.train.accumulate = 1  # microbatches a step, one after the other on each device
    config.train.steps_per_call = 1  # steps in one device call; spares small models its overhead
    config.train.average_decay = 0.999  # of the average of the params; less in the first steps
    config.train.max_bad_steps = 20  # in a row, whose loss or gradient is not finite, before it stops
    config.train.log_every = 50
    config.train.eval_every = 500
    config.train.watch = 64  # examples and samples to watch the inverse on at each evaluation; 0: none
    config.train.watch_tolerance = 1e-3  # of the round trip, past which it warns

    config.parallel = ConfigDict()
    config.parallel.driver = "shard_map"  # or "pmap", "jit"
    config.parallel.fsdp = 1  # devices that share one copy of params, optimizer state and average
    config.parallel.distributed = False  # whether this is one of several processes; experiments/launch
    config.parallel.platform = placeholder(str)  # "gpu", "tpu": on nothing else; None: on what there is

    config.eval = ConfigDict()
    config.eval.weights = "average"  # or "raw"
    config.eval.draws = 16  # for each example, of the dequantization noise and of what else is random
    config.eval.importance = 1  # K: samples of the noise in the bound of a draw; goes with the number
    config.eval.samples = 1_000  # drawn at temperature 1.0, to see whether they are finite
    config.eval.batch_size = 256
    config.eval.model = ConfigDict()  # hyperparameters that differ in evaluation; of the same params

    # What the paper reports: bits_per_dim, source, and of its protocol what is known, in the names of
    # the record of evaluation. Empty where no paper has a number; nothing but the table reads it.
    config.paper = ConfigDict()
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
        config.train.watch = 16
        config.optimizer.warmup_examples = 8
        config.eval.draws, config.eval.samples, config.eval.batch_size = 2, 32, 128
    return config
