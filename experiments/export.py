"""Hands a run on: its best checkpoint as a folder that loads without the run, its config or its data.

python -m experiments.export --workdir=runs/glow_digits --out=model/ [--weights=raw --artifact]

model.safetensors, config.json and a model card, README.md, as the Hugging Face hub lays models out;
fg.load_pretrained("model/") gives the flow and its params. The card's numbers are those that
experiments.evaluate left in WORKDIR, by the run's own protocol. With --artifact also log_prob.jaxexport
and sample.jaxexport, which JAX alone runs: StableHLO for CPU, CUDA and TPU and batches of any size.

A folder in flowjax_glow/pretrained_models ships with the library, and loads by its name.
"""

from pathlib import Path

from absl import flags

from experiments.command import one_line, run_main
from flowjax_glow.sharding import use_cpu_cores
from flowjax_glow.training.experiment import load_trained
from flowjax_glow.training.export import check_out, export_trained
from flowjax_glow.training.manifest import CheckpointError

WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
OUT = flags.DEFINE_string("out", None, "The folder to write, new or an earlier export.", required=True)
WEIGHTS = flags.DEFINE_enum("weights", None, ["average", "raw"], "The config's by default.")
ARTIFACT = flags.DEFINE_bool("artifact", False, "Whether to write StableHLO too.")
LICENSE = flags.DEFINE_string("license", "unknown", "Of the weights, by its name on the hub.")


def main(argv: list[str]) -> None:
    """Writes the folder."""
    del argv
    use_cpu_cores()
    out = Path(OUT.value)
    damaged = one_line(CheckpointError, exit_code=1)
    with one_line(ValueError, OSError), damaged:
        check_out(out.resolve())
        trained = load_trained(WORKDIR.value, weights=WEIGHTS.value)
        export_trained(trained, WORKDIR.value, out, license_id=LICENSE.value, artifact=ARTIFACT.value)
    sizes = ", ".join(
        f"{path.name} {path.stat().st_size / 1e6:.2f} MB" for path in sorted(out.iterdir())
    )
    print(f"step {trained.step}, {trained.weights} weights, in {out}: {sizes}")


if __name__ == "__main__":
    run_main(main)
