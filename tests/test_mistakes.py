"""Mistakes of a person: each is told in one line with the field, what it must be and what it is."""

import os
import resource
import runpy
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from absl import flags
from configs import NAMES, ROOT, module, tiny
from ml_collections import ConfigDict

import experiments.command
import flowjax_glow as fg
from experiments import runs, train
from experiments.command import define_config, one_line, parse_flags, read_flags
from experiments.configs import default
from flowjax_glow import models
from flowjax_glow.data import Split, batch_at, load
from flowjax_glow.evaluation import likelihood
from flowjax_glow.models.hyperparameters import rules_of
from flowjax_glow.nets.table import Table
from flowjax_glow.sharding import check_backend, make_mesh
from flowjax_glow.training import loop
from flowjax_glow.training.bad_steps import NonFiniteError
from flowjax_glow.training.checks import FIELDS, check_config
from flowjax_glow.training.config import (
    check_same_run,
    check_writable,
    flatten,
    read_config,
    write_config,
)
from flowjax_glow.training.drivers import check_devices
from flowjax_glow.training.experiment import build, load_trained
from flowjax_glow.training.manifest import CheckpointError
from flowjax_glow.training.preemption import PreemptedError
from flowjax_glow.training.watch import NotInvertibleError

DIGITS = "--config=experiments/configs/glow_digits.py"


@pytest.fixture(autouse=True)
def _checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def parse(*line) -> Any:
    """The config of a command line, as every command with --config reads it."""
    argv, values = ["command", *map(str, line)], flags.FlagValues()
    define_config("", values=values, argv=argv)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.mark_flag_as_required("config", flag_values=values)
    parse_flags(argv, values)
    return values["config"].value


def refused(message, call, *args, **kwargs):
    """A ValueError of one line, which matches."""
    with pytest.raises(ValueError, match=message) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            [DIGITS, "--config.train.stpes=5"],
            r"no field train.stpes .*stpes=5; did you mean train.steps\?",
        ),
        ([DIGITS, "--config.train.stpes", "5"], r"no field train.stpes .*; did you mean train.steps\?"),
        ([DIGITS, "--config.learning_rate=1"], r"did you mean optimizer.learning_rate\?"),
        ([DIGITS, "--config.data.depth=3"], r"did you mean model.depth\?"),
        ([DIGITS, "--noconfig.data.flp"], r"no field data.flp .*; did you mean data.flip\?"),
        (
            [DIGITS, "--config.train.foo=3"],
            "no field train.foo .*; train has accumulate, .*steps_per_call",
        ),
        ([DIGITS, "--config.train.steps=True"], "config.train.steps=True: .*; it takes a whole number"),
        ([DIGITS, "--config.train.steps=1e4"], "config.train.steps=1e4: .*; it takes a whole number"),
        ([DIGITS, "--config.optimizer.learning_rate=low"], "learning_rate=low: .*; it takes a number"),
        ([DIGITS, "--config.data.flip=7"], "config.data.flip=7: .*; it takes True or False"),
        ([DIGITS, "--config.train=5"], "config.train=5: "),
        ([DIGITS, "--config.train[0]=5"], r"there is no field train\[0\]"),
        ([DIGITS, "--config.optimizer.learning_rate=nan"], "learning_rate must be finite; got nan"),
        ([DIGITS, "--config.model.depth=0"], "model.depth must be at least 1; got 0"),
        (
            [DIGITS, "--config.model.name=glwo"],
            r"name must be one of .*; got 'glwo'; did you mean glow\?",
        ),
        (
            [DIGITS, "--config.model.name=maf"],
            "no field model.coupling of model maf; .*; model has .*width",
        ),
        ([DIGITS, "--workdri=runs/a"], "flag 'workdri'. Did you mean: workdir"),
        (
            [DIGITS + ":smokey"],
            "glow_digits.py:smokey, line .* must be 'smoke' or nothing; got 'smokey'",
        ),
        ([], "--config must be given; got none"),
        (["--config="], "--config must name a file, .*; there is no ''"),
        (["--config=experiments/configs"], "must name a file, .*; there is no 'experiments/configs'"),
        (["--config=glow_digit"], r"did you mean experiments/configs/glow_digits.py\?"),
        (["--config=runs/glow_photos.py"], r"did you mean experiments/configs/glow_photos.py\?"),
        (["--config=nowhere/config.json"], "must name a file, .*; there is no 'nowhere/config.json'"),
        ([f"--config={'a' * 300}.py"], "File name too long: 'aaa"),
        (
            [DIGITS, f"--config.train.steps={2**31}"],
            "train.steps must be at most 2147483647",
        ),
        (["--config.train.steps=5"], "config.train.steps"),
        (["--config.train.steps=5", DIGITS], "Found --config.train.steps=5 in argv before a value"),
    ],
)
def test_a_mistake_in_the_flags_is_told(line, message):
    refused(message, parse, *line)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "SyntaxError: .*line 1"),
        ("import nowhere_to_be_found\n", "line 1: ModuleNotFoundError: No module named"),
        ("steps = 3\n", r"must have a function get_config\(\)"),
        ("def get_config():\n    return {'seed': 1}\n", "must return a ConfigDict; got {'seed': 1}"),
        ("def get_config():\n    pass\n", "must return a ConfigDict; got None"),
        ("def get_config():\n\n    return 1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        (
            "from experiments.configs import default\n"
            "def get_config():\n    config = default.get_config()\n"
            "    config.train.steps = 'many\\n'\n    return config\n",
            "line 4: TypeError: .*'steps'.* many is .* cannot be casted to type <class 'int'>",
        ),
        (
            "from ml_collections import ConfigDict\n"
            "def get_config():\n    return ConfigDict({'seed': 1})\n",
            "must have a field data.build; it is missing",
        ),
        (
            "from experiments.configs import default\n"
            "def get_config():\n    config = default.get_config()\n"
            "    config.train.steps = True\n    config.optimizer.lr = 0.1\n    return config\n",
            "train.steps must be a whole number; got True, a bool",
        ),
        (
            "from experiments.configs import default\n"
            "def get_config():\n    config = default.get_config()\n"
            "    config.optimizer.learningrate = 0.1\n    return config\n",
            r"optimizer.learningrate; got .* = 0.1; did you mean optimizer.learning_rate\?",
        ),
    ],
)
def test_a_mistake_in_a_config_file_is_told(tmp_path, text, message):
    path = tmp_path / "config.py"
    path.write_text(text)
    refused(message, parse, f"--config={path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'seed': 1}", "config.json must be JSON; "),
        ('{"seed": 1', "config.json must be JSON; "),
        ("", "config.json must be JSON; "),
        ("[" * 100_000, "config.json must be JSON; "),
        ("[1]", "must be a JSON object, with sections; got a list"),
        (
            '{"train": {"stpes": 3}}',
            r"no field train.stpes; got train.stpes = 3; did you mean train.steps\?",
        ),
        ('{"train": 3}', "train must be a section, with fields of its own; got 3"),
        ('{"seed": {"a": 1}}', "there is no field seed.a"),
        ('{"train": {"steps": true}}', "train.steps must be a whole number; got True, a bool"),
        ('{"train": {"steps": 10.0}}', "train.steps must be a whole number; got 10.0, a float"),
        ('{"train": {"steps": null}}', "train.steps must be a whole number; got None"),
        ('{"optimizer": {"learning_rate": "1e-3"}}', "must be a number; got '1e-3', a str"),
        ('{"optimizer": {"learning_rate": NaN}}', "learning_rate must be finite; got nan"),
        (
            '{"model": {"name": "glwo"}}',
            r"model.name must be one of .*; got 'glwo'; did you mean glow\?",
        ),
        ('{"model": {"name": "maf", "levels": 3}}', "no field model.levels of model maf"),
        ('{"model": {"name": "nice", "depths": [1, "a"]}}', "depths must be a tuple of whole numbers"),
        ('{"dequantization": {"name": "uniform", "depth": 3}}', "no field dequantization.depth"),
        (
            '{"train": {"batch_size": 1' + 30 * "0" + "}}",
            "batch_size must be at most 2147483647",
        ),
        ('{"model": {"width": 1' + 30 * "0" + "}}", "model.width must be at most 2147483647; got 1000"),
        ('{"optimizer": {"eps": 1' + 400 * "0" + "}}", "optimizer.eps must be finite; got 1000"),
        (
            '{"data": {"name": "\udcff"}}',
            "must be JSON; 'utf-8' codec can't decode",
        ),
    ],
)
def test_a_mistake_in_a_json_config_is_told(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    refused(message, parse, f"--config={path}")
    refused("must have no argument; got 'smoke'", parse, f"--config={path}:smoke")


@pytest.mark.parametrize("name", NAMES)
def test_a_runs_own_json_is_its_config_and_runs_nothing(name, tmp_path, monkeypatch):
    config = module(name).get_config("smoke")
    check_config(config)
    write_config(tmp_path, config)
    monkeypatch.setattr(runpy, "run_path", None)
    read = parse(f"--config={tmp_path}/config.json")
    assert read.to_json(sort_keys=True) == config.to_json(sort_keys=True)
    check_same_run(tmp_path, config)
    check_same_run(tmp_path, read)

    longer = parse(f"--config={tmp_path}/config.json", "--config.train.steps=8", "--config.data.crop=4")
    assert (longer.train.steps, longer.data.crop) == (8, 4)
    assert longer.model.to_dict() == config.model.to_dict()


def test_a_json_of_a_few_fields_has_the_defaults_of_the_others(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"data": {"name": "moons"}, "model": {"name": "maf", "depth": 2}, "seed": 3}')
    config = parse(f"--config={path}", "--config.model.depth=4")
    assert config.model.to_dict() == {"name": "maf", "depth": 4}
    expected = default.get_config()
    expected.data.name, expected.seed, expected.model = "moons", 3, config.model
    assert config.to_json() == expected.to_json()
    path.write_text(
        '{"model": {"depth": 4}, "optimizer": {"learning_rate": 1, "clip_norm": Infinity}, '
        '"paper": {"protocol": {"draws": 16}}}'
    )
    config = parse(f"--config={path}", "--config.model.coupling=additive")
    assert config.paper.to_dict() == {"protocol": {"draws": 16}}
    assert (config.model.depth, config.model.coupling, config.model.levels) == (4, "additive", 3)
    assert isinstance(config.optimizer.learning_rate, float)


def test_a_sweep_takes_a_json_and_tells_mistakes_of_any_run(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(default.get_config().to_json())
    monkeypatch.setattr(runpy, "run_path", None)
    common = {"model.depth": 2}
    found = runs.read_sweep(str(path), "w", seeds=2, common=common)
    assert [(run.config.seed, run.config.model.depth) for run in found] == [(0, 2), (1, 2)]
    common = {"model.depth": 0}
    refused("run seed=0: model.depth must be", runs.read_sweep, str(path), "w", seeds=2, common=common)


def test_every_field_of_the_default_config_has_a_rule():
    fields = {name for name, _ in flatten(default.get_config())}
    assert {name for name in fields if not name.startswith("model.")} == {
        *FIELDS,
        "dequantization.name",
    }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("train.batch_size", True, "must be a whole number; got True, a bool"),
        ("train.batch_size", "64", "must be a whole number; got '64', a str"),
        ("train.batch_size", 64.0, "must be a whole number; got 64.0, a float"),
        ("train.batch_size", None, "must be a whole number; got None"),
        ("train.batch_size", 0, "must be at least 1; got 0"),
        ("train.steps", -5, "must be at least 1; got -5"),
        ("train.eval_every", 0, "must be at least 1; got 0"),
        ("train.max_bad_steps", 0, "must be at least 1; got 0"),
        ("train.average_decay", 1.5, "must be at most 1; got 1.5"),
        ("train.watch_tolerance", 0.0, "must be above 0; got 0.0"),
        ("optimizer.learning_rate", True, "must be a number; got True, a bool"),
        ("optimizer.learning_rate", "1e-3", "must be a number; got '1e-3', a str"),
        ("optimizer.learning_rate", float("nan"), "must be finite; got nan"),
        ("optimizer.learning_rate", float("inf"), "must be finite; got inf"),
        ("optimizer.learning_rate", 0.0, "must be above 0; got 0.0"),
        ("optimizer.learning_rate", -1e-3, "must be above 0; got -0.001"),
        ("optimizer.weight_decay", float("nan"), "must be finite; got nan"),
        ("optimizer.clip_norm", -float("inf"), "must be finite; got -inf"),
        ("data.flip", 1, "must be True or False; got 1, a int"),
        ("data.name", 3, "must be a string; got 3"),
        ("data.shift", 1.0, "must be below 1; got 1.0"),
        ("data.n_bits", 9, "must be at most 8; got 9"),
        ("data.image_size", 0, "must be at least 1 or None; got 0"),
        ("seed", -1, "must be at least 0; got -1"),
        (
            "eval.weights",
            "avrage",
            r"must be one of average, raw; got 'avrage'; did you mean average\?",
        ),
        ("parallel.platform", "cuda", "must be one of cpu, gpu, tpu or None; got 'cuda'"),
        ("dequantization.name", "none", "must be one of uniform, variational; got 'none'"),
        ("model.levels", True, "must be a whole number; got True"),
        ("model.levels", 0, "must be at least 1; got 0"),
        ("model.width", -4, "must be at least 1; got -4"),
        ("model.dropout", 1.0, "must be below 1; got 1.0"),
        ("model.dtype", "int8", "must be one of float32, bfloat16, .* or None; got 'int8'"),
        ("model.learn_top", "no", "must be True or False; got 'no'"),
        ("model.num_classes", 0, "must be at least 1 or None; got 0"),
    ],
)
def test_a_wrong_value_is_told(field, value, message):
    refused(f"^{field} {message}", check_config, _with_field(default.get_config(), field, value))


def _with_field(config, field, value):
    *sections, name = field.split(".")
    holder = config
    for section in sections:
        holder = holder[section]
    if name in holder:
        del holder[name]  # which had a type
    holder[name] = value
    return config


MAY_BE_ZERO = {
    *("seed", "data.memory_gib", "data.pad", "data.shift", "train.average_decay", "train.watch"),
    *(f"optimizer.{name}" for name in ("b1", "b2", "momentum_start", "warmup_examples")),
    *(f"optimizer.{name}" for name in ("final_learning_rate", "weight_decay", "magnitude_l2")),
    "optimizer.running_momentum",
}


@pytest.mark.parametrize("field", [name for name, rule in FIELDS.items() if rule.kind in (int, float)])
def test_no_number_of_a_config_may_be_negative_and_only_these_may_be_0(field, tmp_path):
    def check(config):
        check_config(config)
        check_devices(config)
        build(config)

    for value in (-1, 0):
        config = tiny(tmp_path)
        config.optimizer.update(schedule="decay", decay_rate=0.5)
        _with_field(config, field, FIELDS[field].kind(value))
        if value == 0 and field in MAY_BE_ZERO:
            check(config)
        else:
            refused(f"^{field} must ", check, config)


# Those of the models' that are neither counts nor shares, which have a rule.
@pytest.mark.parametrize(
    ("model", "shape", "options", "names"),
    [
        ("ffjord", (2,), {}, ["rtol", "atol"]),
        ("maf", (2,), {"transform": "spline"}, ["bound"]),
        ("neural_spline_flow", (2,), {}, ["bound"]),
        ("real_nvp", (8, 8, 1), {"scales": 2, "blocks": 1}, ["logit_margin"]),
        ("residual_flow", (4, 4, 1), {"levels": 1}, ["coefficient", "margin", "tolerance"]),
    ],
)
def test_no_number_of_a_model_may_be_negative(model, shape, options, names):
    free = [name for name, rule in rules_of(models.MODELS[model]).items() if rule.kind is float]
    assert set(free) - {"dropout"} == set(names)

    def make(name):
        small = {"width": 4} if model == "real_nvp" else {"width": 4, "depth": 1}
        flow = models.build(model, shape, **small, **options, **{name: -1.0})
        jax.eval_shape(lambda x: fg.init(flow, KEY, x), jnp.zeros((2, *shape)))

    for name in names:
        refused(f"{name.removeprefix('logit_')} .*must be .*; got .*-1.0", make, name)


def test_a_field_may_be_what_the_models_take():
    config = default.get_config()
    config.model = ConfigDict({"name": "flow_plus_plus", "depths": [1, 0, 2], "dropout": 0})
    config.eval.model = ConfigDict({"memory": "recompute"})
    config.paper.update(anything=["at", "all"])
    config.optimizer.clip_norm = float("inf")
    check_config(config)
    config.eval.model.memroy = "stored"
    refused(r"no field eval.model.memroy of .*; did you mean eval.model.memory\?", check_config, config)


def test_a_run_of_an_older_version_lacks_fields_only_to_train():
    config = default.get_config()
    del config.train.max_bad_steps
    check_config(config, whole=False)
    refused("must have a field train.max_bad_steps; it is missing", check_config, config)


def _changed(data_dir, **fields):
    config = tiny(data_dir)
    config.update_from_flattened_dict({name.replace("__", "."): v for name, v in fields.items()})
    return config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model__levels": 4},
            r"by 2\^levels = 16; got \(8, 8, 1\); change model.\* of glow, or data.\*",
        ),
        ({"data__image_size": 9}, "image_size must be 8 for images of 8 x 8, .*; got 9"),
        ({"data__n_bits": 5}, "data.n_bits must be 8 for 17 levels; got 5"),
        ({"data__name": "digitz"}, "unknown data set 'digitz'"),
        ({"data__name": "mnist"}, "is not prepared in .*; run `python -m experiments.prepare`"),
        (
            {"data__name": "folder", "data__image_size": 8},
            "path must name a folder of images; got None",
        ),
        (
            {"data__name": "table", "data__path": "no.csv", "model": {"name": "maf"}},
            "no table at no.csv",
        ),
        (
            {"data__name": "table", "model": {"name": "maf"}},
            "path must name a CSV or Parquet file; got None",
        ),
        (
            {
                "data__name": "moons",
                "data__flip": True,
                "model": {"name": "maf", "depth": 1, "width": 4},
            },
            "flip, shift and random_crop are for images",
        ),
        ({"train__batch_size": 7}, "train.batch_size must be divisible by the 2 devices; got 7"),
        (
            {"parallel__fsdp": 3},
            r"parallel.fsdp must divide the 2 devices; got 3; take one of \[1, 2\]",
        ),
        (
            {"parallel__platform": "gpu"},
            "parallel.platform must be cpu, .* or None .*; got 'gpu'; .*pip",
        ),
        ({"model__num_classes": 3}, "model.num_classes must be at least 10 for digits, .*; got 3"),
        ({"model__width": True}, "model.width must be a whole number; got True"),
        ({"model": {"name": "jet", "patch": 3, "width": 8, "heads": 2}}, "3"),
        ({"model": {"name": "jet", "patch": 2, "width": 8, "heads": 3}}, "heads = 3; got 8"),
        (
            {"model": {"name": "glow", "levels": 1, "depth": 1, "cond_channels": 2}},
            "needs cond; got None",
        ),
    ],
)
def test_what_a_run_cannot_be_is_told_before_its_folder_is_made(tmp_path, fields, message):
    config = tiny(tmp_path / "data")
    if "model" in fields:
        config.model = ConfigDict(fields["model"])
    for name, value in fields.items():
        if "__" in name:
            _with_field(config, name.replace("__", "."), value)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        loop.set_up(config, str(tmp_path / "runs/run"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/run", "/proc/run", "a" * 300, ""):
        refused("workdir must", check_writable, folder, "workdir")
    check_writable(tmp_path / "a/b/c", "workdir")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    refused("workdir must be a folder", loop.set_up, tiny(tmp_path), str(tmp_path / "file/run"))


def test_a_workdir_of_another_or_of_no_known_config_is_told(tmp_path):
    config = module("nice_mnist").get_config("smoke")
    write_config(tmp_path, config)
    check_same_run(tmp_path, config)  # its depths are a tuple, and in the file a list
    config.model.depths = (1, 2)
    config.seed = 1
    config.train.steps = 10  # may change
    refused(
        rf"its own, --config={tmp_path}/config.json: model.depths = .*; seed = 0 there, 1 here$",
        check_same_run,
        tmp_path,
        config,
    )
    (tmp_path / "config.json").write_text('{"seed"')
    refused("config.json must be JSON", read_config, tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "checkpoints/3").mkdir(parents=True)
    refused("workdir must hold config.json, .* has none", check_same_run, tmp_path, config)


def test_a_run_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no run in .*/run: it has no config.json; "):
        load_trained(str(tmp_path / "run"))
    write_config(tmp_path, tiny(tmp_path))
    with pytest.raises(FileNotFoundError, match="there is no folder of checkpoints at"):
        load_trained(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has no checkpoint yet; experiments.train goes on"):
        load_trained(str(tmp_path))


def test_devices_that_are_not_there_are_told(monkeypatch):
    def none():
        raise RuntimeError("Unable to initialize backend 'tpu':\nno TPU")

    config = default.get_config()
    config.parallel.platform = "cpu"
    check_devices(config)
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.setattr(jax, "devices", none)
    refused("JAX_PLATFORMS must name .*; got 'tpu': Unable to .*: no TPU", check_backend)


# A real command costs seconds: one for each way from a mistake to the exit code.
@pytest.mark.parametrize(
    ("command", "line", "environment", "message"),
    [
        (
            "train",
            [DIGITS, "--workdir={}/run", "--config.train.stpes=3"],
            {},
            "did you mean train.steps?",
        ),
        ("train", [DIGITS, "--workdir={}/run"], {"JAX_PLATFORMS": "cuda"}, "got 'cuda'"),
        (
            "train",
            ["--config={}/given.json", "--workdir={}/given.json/run"],
            {},
            "workdir must be a folder",
        ),
        ("plan", [DIGITS, "--config.model.levels=4"], {}, "by 2^levels = 16; got (8, 8, 1)"),
        ("sample", ["--workdir={}/run", "--out={}/given.json/a.png"], {}, "--out must be a folder"),
    ],
)
def test_a_mistake_ends_a_command_with_exit_code_2_and_one_line(
    command, line, environment, message, tmp_path
):
    (tmp_path / "given.json").write_text(tiny(tmp_path).to_json())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{command}", *(word.format(tmp_path) for word in line)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["given.json"]
    # Seconds of a core, which a busy machine makes no longer.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10


# As one calls it who checks no types.
lib: Any = fg
KEY = jax.random.key(0)
PIXELS = np.zeros((2, 4, 4, 1), np.uint8)
X = np.zeros((2, 4, 4, 1), np.float32)
LABELS = np.zeros(2, np.int32)


@pytest.fixture(scope="module")
def flow():
    return fg.glow((4, 4, 1), levels=1, depth=1, width=4, num_classes=3)


@pytest.fixture(scope="module")
def params(flow):
    shape = jax.eval_shape(lambda: lib.init(flow, KEY, jnp.asarray(X), jnp.asarray(LABELS)))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)


@pytest.fixture
def as_a_user():
    """Without the type checker of the tests, which is no part of the library."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _with(array, value):
    changed = array.copy()
    changed[1, 2, 3, 0] = value
    return changed


EXAMPLES = {
    "rank": (X[0], r"shape \(batch, \*\(4, 4, 1\)\); got \(4, 4, 1\)"),
    "channels": (np.zeros((2, 4, 4, 3), np.float32), r"got \(2, 4, 4, 3\)"),
    "odd size": (np.zeros((2, 5, 5, 1), np.float32), r"got \(2, 5, 5, 1\)"),
    "zero length": (X[:0], r"at least one example .*; got shape \(0, 4, 4, 1\)"),
    "dtype": (PIXELS, "a dtype that is floating; got uint8; see fg.dequantize"),
    "traced dtype": (jnp.asarray(PIXELS), "a dtype that is floating; got uint8"),
    "nan": (_with(X, np.nan), r"finite; got nan at \(1, 2, 3, 0\)"),
    "infinite": (_with(X, -np.inf), r"finite; got -inf at \(1, 2, 3, 0\)"),
    "no array": ([[0.0]], "to be an array; got a list"),
}


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("mistake", EXAMPLES)
def test_examples_that_a_flow_cannot_take_are_told(flow, params, mistake):
    x, message = EXAMPLES[mistake]
    refused(f"expected x .*{message}", fg.init, flow, KEY, x, LABELS)
    refused(f"expected x .*{message}", fg.log_prob, flow, params, x, LABELS)
    refused(f"expected x .*{message}", fg.encode, flow, params, x, LABELS)
    refused(f"expected x .*{message}", fg.estimate_log_prob, flow, params, x, KEY, 2, LABELS)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f, p: lib.log_prob(f, p, X, LABELS[:1]),
            "expected cond .* of the 2 examples; got shape",
        ),
        (
            lambda f, p: lib.decode(f, p, X[:, :2], LABELS),
            "expected z of 16 entries an example.* got shapes",
        ),
        (
            lambda f, p: lib.decode(f, p, (X, X), LABELS),
            "expected z of 16 entries an example.* got shapes",
        ),
        (
            lambda f, p: lib.decode(f, p, (X[:1, :2], X[:, :2]), LABELS),
            "expected z of 16 entries an example",
        ),
        (lambda f, p: lib.decode(f, p, X[:0], LABELS[:0]), "expected z with at least one example"),
        (
            lambda f, p: lib.decode(f, p, PIXELS, LABELS),
            "expected z of a dtype that is floating; got uint8",
        ),
        (lambda f, p: lib.decode(f, p, _with(X, np.nan), LABELS), "expected z to be finite; got nan"),
        (lambda f, p: lib.decode(f, p, X, LABELS[:1]), "expected cond .* of the 2 examples; got shape"),
        (lambda f, p: lib.sample(f, p, KEY, 0), "num must be a whole number of at least 1; got 0"),
        (
            lambda f, p: lib.sample(f, p, KEY, True),
            "num must be a whole number .*; got True",
        ),
        (lambda f, p: lib.sample(f, p, KEY, 2.5), "num must be a whole number of at least 1; got 2.5"),
        (lambda f, p: lib.sample(f, p, KEY, 2, temperature=-1.0), "not negative; got -1.0"),
        (
            lambda f, p: lib.sample(f, p, KEY, 2, temperature=np.nan),
            "temperature must be finite .*; got nan",
        ),
        (lambda f, p: lib.sample(f, p, KEY, 2, cond=LABELS[:1]), "of the 2 examples; got shape"),
    ],
)
def test_what_a_flow_cannot_decode_or_draw_is_told(flow, params, call, message):
    refused(message, call, flow, params)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_gives_nan_and_no_number(flow, label):
    """A traced label cannot be refused; a density of no class, or of the last, would pass for one."""
    table = fg.Flow(fg.learned_prior(partial(Table, num_classes=3)), fg.standard_normal(), (4,))
    for of, x in ((flow, jnp.asarray(X)), (table, jnp.zeros((2, 4)))):
        params = fg.init(of, KEY, x + jax.random.normal(KEY, x.shape), jnp.asarray(LABELS))
        values = jax.jit(partial(fg.log_prob, of))(params, x, jnp.asarray([2, label]))
        assert list(np.isnan(values)) == [False, True]


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: lib.glow((4, 0, 1)),
            r"event_shape must be \(height, width, channels\); got \(4, 0, 1\)",
        ),
        (lambda: lib.glow((4, 4)), r"event_shape must be \(height, width, channels\); got \(4, 4\)"),
        (lambda: lib.glow((5, 4, 1), levels=1), r"divisible by 2\^levels = 2; got \(5, 4, 1\)"),
        (lambda: lib.glow((4, 4, 1), levels=1, depth=0), "depth must be at least 1; got 0"),
        (lambda: lib.dequantize(None, X), "expected images of a dtype that is integer; got float32"),
        (
            lambda: lib.dequantize(None, PIXELS > 0),
            "expected images of a dtype that is integer; got bool",
        ),
        (lambda: lib.dequantize(None, PIXELS[0, 0, 0]), r"expected images of shape \(batch, \*event\)"),
        (lambda: lib.dequantize(None, PIXELS[:0]), "expected images with at least one example"),
        (
            lambda: lib.dequantize(None, _with(PIXELS, 17), n_bins=17),
            r"expected images in \[0, 17\), its levels; got 17 at \(1, 2, 3, 0\)",
        ),
        (
            lambda: lib.dequantize(None, _with(PIXELS.astype(np.int32), -1)),
            r"in \[0, 256\), .*; got -1 at",
        ),
        (lambda: lib.dequantize(None, PIXELS, n_bins=0), "n_bins must be a whole number .*; got 0"),
        (
            lambda: lib.dequantize(None, PIXELS, n_bins=True),
            "n_bins must be a whole number .*; got True",
        ),
        (lambda: lib.quantize(PIXELS), "x must be floating, .*; got uint8"),
        (lambda: lib.quantize(jnp.zeros(2), n_bins=300), r"n_bins must be .* in 1 .. 256; got 300"),
        (lambda: lib.reduce_bits(PIXELS, 9), "n_bits must be between 1 and 8; got 9"),
        (lambda: lib.reduce_bits(PIXELS.astype(np.int32), 5), "images must be uint8, .*; got int32"),
        (lambda: lib.bits_per_dim(jnp.zeros(2), (4, 4), n_bins=256.0), "whole number .*; got 256.0"),
        (lambda: lib.bits_per_dim(jnp.zeros(2), (4, 0), n_bins=256), r"positive sizes; got \(4, 0\)"),
        (lambda: load("digits", "dev"), "split must be one of train, valid, test; got 'dev'"),
        (lambda: load("digits", "train", image_size=9), "image_size must be 8 .*; got 9"),
        (lambda: load("digits", "train", channels=2), "channels must be 1 or 3 .*; got 2"),
    ],
)
def test_what_images_cannot_be_is_told(call, message):
    refused(message, call)


SPLIT = Split(PIXELS, LABELS)


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(PIXELS[:0], LABELS[:0]), "expected examples with at least one example"),
        (Split(PIXELS[:, :2], LABELS), r"expected examples of shape .*; got \(2, 2, 4, 1\)"),
        (Split(PIXELS[0], LABELS), r"expected examples of shape .*; got \(4, 4, 1\)"),
        (Split(X, LABELS), "expected examples of a dtype that is integer; got float32"),
        (
            Split(_with(PIXELS, 17), LABELS),
            r"expected examples in \[0, 17\), .*; got 17 at \(1, 2, 3, 0\)",
        ),
        (Split(PIXELS, LABELS[:1]), r"expected labels of shape \(2,\), one an example; got \(1,\)"),
    ],
)
def test_a_split_that_cannot_be_evaluated_is_told(flow, params, split, message):
    of = {"dequantizer": fg.uniform_dequantizer(n_bins=17), "conditional": True, "mesh": make_mesh()}
    refused(message, likelihood, flow, params, split, KEY, **of)
    refused("draws must be at least 1; got 0", likelihood, flow, params, SPLIT, KEY, draws=0, **of)


def test_vectors_that_are_not_finite_are_told():
    vectors = np.array([[0.0, 1.0], [np.nan, 2.0]], np.float32)
    flow = fg.maf((2,), depth=1, width=4)
    of = {"dequantizer": fg.uniform_dequantizer(n_bins=None), "mesh": make_mesh()}
    message = r"expected examples to be finite; got nan at \(1, 0\)"
    refused(message, likelihood, flow, {}, Split(vectors, LABELS), KEY, **of)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive multiple of process_count; got 0 and 1"),
        ({"batch_size": 3, "process_count": 2}, "positive multiple of process_count; got 3 and 2"),
        ({"seed": -1}, "seed must not be negative; got -1"),
        ({"step": -1}, "step must not be negative; got -1"),
        ({"shift": float("nan")}, r"shift must be in \[0, 1\); got nan"),
        ({"random_crop": 5}, "random_crop must be in 1 .. 4; got 5"),
        ({"split": Split(PIXELS[:0], LABELS[:0])}, "at least one example; got 0"),
        ({"split": Split(PIXELS, LABELS[:1])}, "a label for each of its 2 examples; got 1"),
    ],
)
def test_a_batch_that_cannot_be_is_told(change, message):
    refused(message, batch_at, **({"split": SPLIT, "step": 0, "batch_size": 2, "seed": 0} | change))


def test_a_word_that_is_no_flag_is_told_and_not_passed_over(monkeypatch, capsys):
    monkeypatch.setattr(experiments.command, "parse_flags", lambda argv, _: argv)
    with pytest.raises(SystemExit) as ended:
        read_flags(["train", "steps=3"])
    message = "error: what follows must be flags, --name=value; got 'steps=3'\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, message)
    assert read_flags(["table", "runs/run"], arguments=True) == ["table", "runs/run"]


def test_a_message_of_many_lines_is_told_in_one(capsys):
    with pytest.raises(SystemExit) as ended, one_line(OSError):
        raise OSError("a\nb  c\n")
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: a b c\n")


@pytest.fixture
def command(monkeypatch, capfd):
    """command(set_up, run): the exit code of experiments.train with these in place, and its stderr."""
    before = signal.getsignal(signal.SIGTERM)

    def end(code):
        raise SystemExit(code)

    def command(set_up=lambda *_: None, run=lambda _: {}):
        for name, function in {"set_up": set_up, "run": run, "print_record": print}.items():
            monkeypatch.setattr(train, name, function)
        monkeypatch.setattr(train, "CONFIG", SimpleNamespace(value=default.get_config()))
        monkeypatch.setattr(train, "WORKDIR", SimpleNamespace(value="runs/run"))
        monkeypatch.setattr(os, "_exit", end)  # which would end the tests too
        with pytest.raises(SystemExit) as ended:
            raise SystemExit(train.main([]) or 0)
        return ended.value.code, capfd.readouterr().err

    yield command
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NonFiniteError("a\nb"), 1),
        (NotInvertibleError("a\nb"), 1),
        (CheckpointError("a\nb"), 1),
        (OSError("a\nb"), 1),  # of the disk, when all has begun
        (ValueError("a\nb"), 2),  # a checkpoint of other arrays, or an image that cannot be used
        (PreemptedError("a\nb"), 143),
    ],
)
def test_a_run_that_stops_ends_in_one_line_and_its_exit_code(command, error, code):
    def stop(_):
        raise error

    assert command(run=stop) == (code, "error: a b\n")
    assert command() == (0, "")


@pytest.mark.parametrize("error", [ValueError, OSError, MemoryError])
def test_a_run_that_cannot_begin_ends_in_one_line_and_exit_code_2(command, error):
    def stop(*_):
        raise error("a\nb")

    assert command(set_up=stop) == (2, "error: a b\n")


@pytest.mark.parametrize("moment", ["set_up", "run"])
def test_sigterm_before_and_after_training_ends_with_exit_code_143(command, moment):
    ended = command(**{moment: lambda *_: os.kill(os.getpid(), signal.SIGTERM)})
    assert ended == (143, "error: stopped by SIGTERM; run again to go on\n")


def test_after_sigterm_another_changes_nothing(command):
    def stop(_):
        raise PreemptedError("stopped at step 3, which is saved; run again to go on")

    assert command(run=stop)[0] == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
