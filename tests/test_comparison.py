"""The comparison of families is one of equals."""

import jax
import jax.numpy as jnp
import pytest

import flowjax_glow as fg
from experiments.configs import comparison
from flowjax_glow.training.experiment import abstract_state, build, train_step

SWEEP = [run["config_string"] for run in comparison.get_sweep()]
PARAMETERS = {
    "nice_digits": 961_984,
    "real_nvp_digits": 978_795,
    "glow_digits": 1_007_332,
    "spline_digits": 964_052,
    "residual_flow_digits": 953_809,
    "flow_plus_plus_digits": 966_360,
    "jet_digits": 1_015_720,
    "tarflow_digits": 1_009_000,
    "nice_photos": 1_017_288,
    "real_nvp_photos": 1_037_099,
    "glow_photos": 1_024_884,
    "spline_photos": 1_024_476,
    "residual_flow_photos": 970_985,
    "flow_plus_plus_photos": 1_002_412,
    "jet_photos": 963_480,
    "tarflow_photos": 980_544,
}


def _experiment(argument, folder):
    config = comparison.get_config(argument)
    config.data.data_dir = str(folder)
    return build(config)


@pytest.mark.parametrize("name", comparison.NAMES)
def test_a_million_parameters(name, tmp_path):
    state = abstract_state(_experiment(name, tmp_path))
    assert fg.count_parameters(state.params) == PARAMETERS[name]
    assert 950_000 <= PARAMETERS[name] <= 1_050_000


@pytest.mark.parametrize("name", [n for n in comparison.NAMES if n.endswith("photos")])
def test_the_smoke_form_has_gradients_of_all_it_trains(name, tmp_path):
    experiment = _experiment(f"{name}:smoke", tmp_path)
    state = abstract_state(experiment)
    assert fg.count_parameters(state.params) < PARAMETERS[name] / 4
    images = jax.ShapeDtypeStruct((8, *experiment.flow.event_shape), jnp.uint8)
    batch = {"example": images, "label": jax.ShapeDtypeStruct((8,), jnp.int32)}
    loss, grads = jax.eval_shape(train_step(experiment).gradients, state.params, state.key, batch)
    assert loss.shape == ()
    assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, state.average)


@pytest.mark.parametrize("data", ["digits", "photos"])
def test_runs_of_a_set_differ_as_the_docstring_says(data):
    def equal(name):
        config = comparison.get_config(name).to_dict()
        family = name.removesuffix(f"_{data}")
        del config["model"]
        noise = config.pop("dequantization")["name"]
        assert noise == ("variational" if family == "flow_plus_plus" else "uniform")
        rate = config["optimizer"].pop("learning_rate")
        assert rate == (1e-2 if family == "nice" else 1e-3)
        return config

    names = [f"{family}_{data}" for family in comparison.FAMILIES]
    assert [name for name in SWEEP if name.endswith(data)] == names
    assert all(equal(name) == equal(names[0]) for name in names)
    assert equal(names[0])["data"]["name"] == data


def test_the_argument_is_a_name_or_smoke_or_both():
    assert len(SWEEP) == 14
    assert set(SWEEP) <= set(comparison.NAMES)
    first = comparison.NAMES[0]
    assert comparison.get_config() == comparison.get_config(first)
    assert comparison.get_config("smoke") == comparison.get_config(f"{first}:smoke")
    with pytest.raises(ValueError, match=r"must be one of .* or 'smoke'; got 'glow'"):
        comparison.get_config("glow")
    with pytest.raises(ValueError, match="must be 'smoke' or nothing; got 'tiny'"):
        comparison.get_config("glow_digits:tiny")
