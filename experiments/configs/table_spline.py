r"""Neural spline flow on the numeric columns of a CSV or Parquet file of your own.

python -m experiments.train --config=experiments/configs/table_spline.py --workdir=runs/table \
    --config.data.path=my/numbers.csv

The number of columns must be even; model maf takes any. What is read of the file, and how it is split
and standardised, stands in flowjax_glow/data/table.py. Samples in the columns' own units:

python -m experiments.sample --workdir=runs/table --out=samples.csv
"""

from ml_collections import ConfigDict

from experiments.configs import default


def get_config(mode: str = ""):
    config = default.get_config()
    config.data.name = "table"

    config.model = ConfigDict(
        {"name": "neural_spline_flow", "depth": 4, "width": 64, "bins": 8, "bound": 3.0, "dropout": 0.1}
    )

    config.optimizer.warmup_examples = 25_600
    config.optimizer.clip_norm = 5.0

    config.train.steps = 4_000
    config.train.batch_size = 256
    config.train.log_every = 100
    config.train.eval_every = 200
    config.train.steps_per_call = 100
    config.eval.batch_size = 2_000
    return default.finish(config, mode, depth=2, width=8)
