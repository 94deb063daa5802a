"""Ten ways to get a likelihood wrong, four to forget something on restore, and what notices each.

python tests/mutants/mutants.py [NAME ...]

Each mutant is a copy of the package with one line changed. The tests named beside it must pass on the
package as it is and fail on the mutant.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
EXACT = "tests/test_exact_likelihood.py::test_"
LIKELIHOOD = "tests/test_likelihood.py::test_"
HAND_SET = EXACT + "a_glow_with_parameters_set_by_hand_has_the_bits_of_its_closed_form"
SAMPLES = EXACT + "samples_fit_the_density_and_samples_stretched_by_two_percent_do_not"
NOISE = LIKELIHOOD + "noise_is_uniform_and_middles_are_middles"
RESTORE = "tests/test_checkpoint.py::test_all_of_a_state_comes_back_bit_for_bit"


class Mutant(NamedTuple):
    """`old`, which stands once in `file`, becomes `new`; `killers` are the tests that notice."""

    file: str
    old: str
    new: str
    killers: tuple[str, ...]


MUTANTS = {
    "a dropped logdet": Mutant(
        "flow.py",
        "return flow.prior.log_prob(z) + logdet",
        "return flow.prior.log_prob(z) + 0 * logdet",
        (HAND_SET, SAMPLES),
    ),
    "a flipped sign": Mutant(
        "flow.py",
        "return flow.prior.log_prob(z) + logdet",
        "return flow.prior.log_prob(z) - logdet",
        (HAND_SET, SAMPLES),
    ),
    "a missing H*W": Mutant(
        "bijectors/invertible_conv.py",
        "(x[0].size // x.shape[-1]) * logdet",
        "logdet",
        (HAND_SET,),
    ),
    "a missing log n_bins": Mutant(
        "likelihood.py",
        "return (dims * math.log(n_bins) - log_prob)",
        "return (0 * math.log(n_bins) - log_prob)",
        (HAND_SET, LIKELIHOOD + "a_uniform_density_costs_log2_of_the_levels"),
    ),
    "x / 255 with log 256": Mutant(
        "likelihood.py",
        "(images.astype(jnp.float32) + noise) / n_bins - 0.5",
        "(images.astype(jnp.float32) + noise) / (n_bins - 1) - 0.5",
        (HAND_SET,),
    ),
    "no dequantization": Mutant(
        "likelihood.py",
        "    if key is None:\n        noise",
        "    if True:\n        noise",
        (NOISE,),
    ),
    "half-range noise": Mutant(
        "likelihood.py",
        "return (bits.astype(jnp.float32) + 0.5) / 2**_NOISE_BITS",
        "return (bits.astype(jnp.float32) + 0.5) / 2 ** (_NOISE_BITS + 1)",
        (NOISE,),
    ),
    "a batch mean": Mutant(
        "flow.py",
        "return flow.prior.log_prob(z) + logdet",
        "return 0 * logdet + jnp.mean(flow.prior.log_prob(z) + logdet)",
        (HAND_SET, SAMPLES),
    ),
    "a missing split prior": Mutant(
        "priors.py",
        "for leaf in jax.tree.leaves(z)]\n        return sum",
        "for leaf in jax.tree.leaves(z)[-1:]]\n        return sum",
        (HAND_SET,),
    ),
    "a missing log 2 pi": Mutant(
        "priors.py",
        "-0.5 * (z**2 + math.log(2.0 * math.pi))",
        "-0.5 * z**2",
        (HAND_SET, SAMPLES),
    ),
    "a forgotten key": Mutant(
        "training/checkpoint.py",
        'wrap_key_data(arrays["key"])',
        'wrap_key_data(0 * arrays["key"])',
        (RESTORE,),
    ),
    "a forgotten position of the data": Mutant(
        "training/checkpoint.py",
        "return TrainState(**{**arrays, ",
        'return TrainState(**{**arrays, "step": 0 * arrays["step"], ',
        (RESTORE,),
    ),
    "a forgotten optimizer state": Mutant(
        "training/checkpoint.py",
        "return TrainState(**{**arrays, ",
        'return TrainState(**{**arrays, "opt_state": jax.tree.map(jnp.zeros_like, '
        'arrays["opt_state"]), ',
        (RESTORE,),
    ),
    "a forgotten average": Mutant(
        "training/checkpoint.py",
        "return TrainState(**{**arrays, ",
        'return TrainState(**{**arrays, "average": jax.tree.map(jnp.zeros_like, arrays["average"]), ',
        (RESTORE,),
    ),
}


def failures(mutant: Mutant | None, tests: tuple[str, ...], timeout: float = 280) -> list[str]:
    """The tests that fail on the package with this change, or as it is; each must have run.

    Raises:
      ValueError: where the text to be changed does not stand exactly once in its file.
      RuntimeError: with pytest's output, where a test did not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("flowjax_glow", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            path = copy / "flowjax_glow" / mutant.file
            text = path.read_text()
            if text.count(mutant.old) != 1:
                raise ValueError(f"{mutant.old!r} must stand once in {mutant.file}")
            path.write_text(text.replace(mutant.old, mutant.new))
        # python -m puts the folder it runs in before the installed package.
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:xdist", "--tb=no", *tests],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    lines = done.stdout.splitlines()
    passed = {t for t in tests if f"PASSED {t}" in lines}
    failed = [t for t in tests if any(line.startswith(f"FAILED {t}") for line in lines)]
    if len(passed) + len(failed) != len(tests):
        raise RuntimeError(f"not every test ran:\n{done.stdout}\n{done.stderr}")
    return failed


def main(names: list[str]) -> int:
    """Applies each mutant and says which tests killed it; 1 where one lives."""
    chosen = {name: MUTANTS[name] for name in names or MUTANTS}
    every_killer = tuple(dict.fromkeys(t for m in chosen.values() for t in m.killers))
    broken = failures(None, every_killer)
    if broken:
        print(f"these fail without any mutant: {broken}")
        return 1
    survivors = 0
    for name, mutant in chosen.items():
        killed_by = failures(mutant, mutant.killers)
        survivors += set(killed_by) != set(mutant.killers)
        for test in mutant.killers:
            verdict = "killed by" if test in killed_by else "NOT NOTICED by"
            print(f"{name}: {verdict} {test.split('::')[1]}", flush=True)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
