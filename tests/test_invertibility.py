"""A flow is seen layer by layer, and where it stops being invertible is found and named."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, batch, mlp, perturb
from configs import tiny
from flax import linen as nn
from ml_collections import ConfigDict

import flowjax_glow as fg
from experiments.configs import moons_spline
from flowjax_glow.base import distance
from flowjax_glow.bijectors.coupling import coupling
from flowjax_glow.data.split import Split
from flowjax_glow.depth import _rebuild_error
from flowjax_glow.invertibility import Invertibility, first_bad_layer, measure, problems
from flowjax_glow.layers import layers
from flowjax_glow.models import MODELS
from flowjax_glow.training import loop, watch
from flowjax_glow.training.checkpoint import Checkpoints
from flowjax_glow.training.experiment import build
from flowjax_glow.training.metrics import read_metrics

KEY = jax.random.key(0)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(256, size=(12, 8, 8, 1)), jnp.uint8)
FLOW = fg.glow((8, 8, 1), levels=2, depth=2, width=4)


@pytest.fixture(scope="module")
def params():
    """Of FLOW, moved a little from where it starts."""
    return perturb(fg.init(FLOW, KEY, fg.dequantize(KEY, IMAGES)), scale=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "glow, shuffle, three levels",
        "conjugate",
        "halves",
        "condition",
        "invert",
        "iaf, cond",
        "repeat of repeat",
    ],
)
def test_the_layers_one_after_the_other_are_the_whole(name):
    case = CASES[name]
    x, cond = batch(case, "float32")
    params = perturb(jax.jit(case.bijector.init)(KEY, x, cond))
    z, _ = jax.jit(case.bijector.forward)(params, x, cond)
    there, seen = layers(case.bijector, params, x, cond)
    back, returned = layers(case.bijector, params, z, cond, inverse=True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), (there, back), (z, x))
    assert all(layer.bijector.rebuild is None for layer in seen)
    # Python's sort keeps the order of equals: what stands twice, the outer of conjugate.
    ends = (sorted(ls, key=lambda layer: layer.name) for ls in (seen, reversed(returned)))
    for a, b in zip(*ends, strict=True):
        assert a.name == b.name
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), (a.x, a.z), (b.x, b.z))


def test_a_layer_is_called_by_its_level_its_step_and_what_made_it(params):
    x = fg.dequantize(None, IMAGES)
    kinds = ["actnorm", "invertible_conv", "affine_coupling"]
    step = [f"step {i} of 2, {kind}" for i in (1, 2) for kind in kinds]
    first = ["squeeze", *step, "affine_coupling"]  # the last whitens what leaves
    names = [f"level 1, {name}" for name in first]
    names += [f"level 2, {name}" for name in ["squeeze", *step, "learned_prior"]]
    assert [layer.name for layer in layers(FLOW.bijector, params, x)[1]] == names


def test_twins_in_a_chain_are_told_apart():
    twins = fg.chain(fg.actnorm(), fg.repeat(fg.scale(), 1), fg.repeat(fg.scale(), 1), fg.actnorm())
    x = jnp.ones((2, 4))
    names = [layer.name for layer in layers(twins, twins.init(KEY, x), x)[1]]
    assert names == [
        "part 1 of 4, actnorm",
        "part 2 of 4, step 1 of 1, scale",
        "part 3 of 4, step 1 of 1, scale",
        "part 4 of 4, actnorm",
    ]


@pytest.mark.parametrize(
    "name", ["affine_coupling, bounded", "spline_coupling", "affine_autoregressive", "mixture_coupling"]
)
def test_log_slopes_add_up_to_the_logdet(name):
    case = CASES[name]
    x, cond = batch(case, "float32")
    params = perturb(jax.jit(case.bijector.init)(KEY, x, cond))
    assert case.bijector.log_slopes is not None
    log_slopes = jax.jit(case.bijector.log_slopes)(params, x, cond)
    total = log_slopes.reshape(len(x), -1).sum(1)
    logdet = jax.jit(case.bijector.forward)(params, x, cond)[1]
    assert np.abs(logdet).min() > 1e-3
    np.testing.assert_allclose(total, logdet, atol=1e-4)


def test_a_sound_flow_is_measured():
    params = fg.init(FLOW, KEY, fg.dequantize(KEY, IMAGES))
    # The first step's kernel is orthogonal.
    params = _spoilt(params, (1, 1, "kernel"), lambda kernel: kernel.at[0, :, 0].divide(50.0))
    found = measure(FLOW, params, IMAGES, KEY, n_bins=256)
    assert found.data_error < 1e-4
    assert max(found.latent_error_07, found.latent_error_10) < 1e-3
    assert (found.exact_images, found.nonfinite_07, found.nonfinite_10) == (1.0, 0.0, 0.0)
    # The nets are 0 at first, and the scales of the steps sigmoid(2).
    assert found.smallest_scale == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)
    assert found.largest_condition == pytest.approx(50, rel=1e-3)
    assert problems(FLOW, params, IMAGES, KEY, n_bins=256) == []


def test_the_scale_of_an_inverted_layer_is_that_of_the_flow():
    flow = fg.Flow(fg.invert(fg.affine_coupling(mlp)), fg.standard_normal(), (4,))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)
    found = measure(flow, fg.init(flow, KEY, x), x, KEY, n_bins=None)
    assert found.smallest_scale == pytest.approx(1 + np.exp(-2), rel=1e-5)
    assert found.largest_condition is None


def _spoilt(params, where, change):
    """params with the leaf at a path changed; where: (path..., name)."""

    def spoil(path, leaf):
        keys = tuple(getattr(entry, "idx", getattr(entry, "key", None)) for entry in path)
        return change(leaf) if keys == where else leaf

    return jax.tree_util.tree_map_with_path(spoil, params)


@pytest.mark.parametrize(
    ("where", "change", "line"),
    [
        (
            (3, 1, 0, "log_scale"),
            lambda p: p.at[0].set(jnp.nan),
            "12 of 12 examples are not finite: level 2, step 1 of 2, actnorm, whose forward takes",
        ),
        (  # a kernel of rank 3: forward is fine, and nothing comes back
            (1, 1, "kernel"),
            lambda p: p.at[1, 0].set(p[1, 1]),
            "12 of 12 examples are .*: level 1, step 2 of 2, invertible_conv, ",
        ),
        (  # made so small that what is added next leaves few of its digits
            (1, 0, "log_scale"),
            lambda p: p.at[0].set(-14.0),
            "12 of 12 examples are off by up to .*: level 1, step 1 of 2, actnorm, after whose inverse",
        ),
    ],
    ids=["nan", "singular", "digits lost"],
)
def test_the_first_layer_that_goes_wrong_is_named(params, where, change, line):
    spoilt = _spoilt(params, where, change)
    lines = problems(FLOW, spoilt, IMAGES, KEY, n_bins=256)
    assert re.match(line, lines[0])
    found = measure(FLOW, spoilt, IMAGES, KEY, n_bins=256)
    assert found.data_error > 1e-3


class Cliff(nn.Module):
    """h = -200 max(0, x - 0.6): harmless on the data, which are below 0.5."""

    out_channels: int

    @nn.compact
    def __call__(self, h, cond=None, deterministic=True):
        del cond, deterministic
        slope = self.param("slope", lambda _: jnp.full((), 200.0, h.dtype))
        return -slope * jnp.maximum(h - 0.6, 0)


def steep_coupling():
    """z2 = x2 exp(h), with no bound to h."""

    def forward(h, x):
        return x * jnp.exp(h), h

    def inverse(h, z):
        return z * jnp.exp(-h), -h

    return coupling(Cliff, 1, forward, inverse)


def test_samples_may_overflow_where_all_data_come_back():
    flow = fg.Flow(fg.repeat(steep_coupling(), 1), fg.standard_normal(), (2,))
    x = jnp.asarray(np.random.default_rng(0).uniform(-0.5, 0.5, (256, 2)), jnp.float32)
    params = fg.init(flow, KEY, x)
    found = measure(flow, params, x, KEY, n_bins=None)
    kept = np.asarray(flow.prior.sample(KEY, x, 1.0))[:, 0]
    assert found.data_error < 1e-6
    assert found.exact_images is None
    # exp(200 (x - 0.6)) is more than float32 holds where x > 1.044.
    assert found.nonfinite_10 == pytest.approx(np.mean(kept > 1.044), abs=2 / 256)
    assert 0 < found.nonfinite_07 == pytest.approx(np.mean(0.7 * kept > 1.044), abs=2 / 256)
    lines = problems(flow, params, x, KEY, n_bins=None)
    assert len(lines) == 2
    for line, temperature in zip(lines, (0.7, 1.0), strict=True):
        assert (
            f"samples at temperature {temperature} are not finite: step 1 of 1, steep_coupling" in line
        )


def test_a_wrong_inverse_is_found_from_either_side():
    right = fg.scale()

    def inverse(params, z, cond=None, key=None):
        x, logdet = right.inverse(params, z, cond, key)
        return x + 0.01, logdet

    crooked = right._replace(inverse=inverse)
    bijector = fg.chain(fg.reverse(), fg.repeat(fg.actnorm(), 2), crooked, fg.invert(fg.softplus()))
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (4, 6)), jnp.float32)
    flow = fg.Flow(bijector, fg.standard_normal(), (6,))
    params = bijector.init(KEY, x)
    params = (*params[:1], jax.tree.map(jnp.zeros_like, params[1]), *params[2:])
    assert first_bad_layer(flow, params, x).startswith("scale, after whose inverse")
    z = fg.encode(flow, params, x)
    back = first_bad_layer(flow, params, z, from_latents=True)
    assert back.startswith("scale, after whose forward")


def test_a_largest_difference_does_not_pass_over_nan():
    """XLA on a CPU makes max(nan, 1) = 1, and a rebuilt activation that is nan would look right."""
    x = jnp.ones((4, 8))
    broken = x.at[2, 3].set(jnp.nan)
    assert jax.jit(lambda a, b: jnp.max(distance(a, b)))(broken, x) == jnp.inf
    assert jax.jit(_rebuild_error)(broken, x) == jnp.inf


def _experiment(tmp_path, memory):
    config = tiny(tmp_path, watch=4)
    config.model.memory = memory
    return build(config)


def test_training_warns_and_with_constant_memory_refuses(tmp_path):
    pixels = np.random.default_rng(0).integers(17, size=(4, 8, 8, 1)).astype(np.uint8)
    split = Split(pixels, np.zeros(4, np.int32))
    experiment = _experiment(tmp_path, "stored")
    params = fg.init(experiment.flow, KEY, fg.dequantize(KEY, jnp.asarray(pixels), n_bins=17))
    params = perturb(params)
    sound = watch.watch(experiment, params, split, 3)
    assert sound.warnings == []
    assert set(sound.values) == {f"inverse/{name}" for name in Invertibility._fields}
    spoilt = _spoilt(params, (1, 0, "log_scale"), lambda p: jnp.full_like(p, -18.0))
    seen = watch.watch(experiment, spoilt, split, 3)
    assert seen.values["inverse/data_error"] > 1e-3
    assert "step 1 of 1, actnorm" in seen.warnings[0]
    constant = _experiment(tmp_path, "constant")
    assert watch.watch(constant, params, split, 3).warnings == []
    says = r"at step 3 4 of 4 examples are off by .* actnorm, .* model\.memory = stored"
    with pytest.raises(watch.NotInvertibleError, match=says):
        watch.watch(constant, spoilt, split, 3)


def coupling_flow(event_shape, *, memory):
    return fg.Flow(
        fg.repeat(fg.affine_coupling(mlp), 1, memory=memory), fg.standard_normal(), event_shape
    )


@pytest.mark.usefixtures("optax_promotes")
def test_every_evaluation_is_logged_and_a_stop_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "coupling", coupling_flow)
    config = moons_spline.get_config("smoke")
    config.model = ConfigDict({"name": "coupling", "memory": "constant"})
    config.data.train_examples = 64
    config.train.update(steps=6, eval_every=2, watch=4)
    reports = iter([0.0, 1e-4, 1.0])

    def reported(*args, **kwargs):
        return measure(*args, **kwargs)._replace(data_error=next(reports))

    monkeypatch.setattr(watch, "measure", reported)
    with pytest.raises(watch.NotInvertibleError, match="at step 6 "):
        loop.train(loop.set_up(config, str(tmp_path / "run")))
    logged = [r for r in read_metrics(tmp_path / "run") if "inverse/data_error" in r]
    assert [(r["step"], r["inverse/data_error"]) for r in logged] == [(2, 0.0), (4, 1e-4)]
    # Vectors have no pixels, and the flow no kernels.
    fields = set(Invertibility._fields) - {"exact_images", "largest_condition"}
    for record in logged:
        assert {name for name in record if "/" in name} == {f"inverse/{name}" for name in fields}
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == 4
