"""The model card of a flow handed on: its numbers with their protocol, how to load it, its limits.

A README.md as the Hugging Face hub reads it: metadata in YAML between lines of dashes, then Markdown.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flowjax_glow.likelihood import unit_of
from flowjax_glow.report.record import record_rows

# What data.load is given for a set: those that differ from these defaults are printed.
_SOURCE = {
    "build": None,
    "crop": None,
    "image_size": None,
    "pad": 0,
    "channels": None,
    "random_crop": None,
    "train_examples": None,
    "valid_examples": None,
}
_OWN_DATA = {"folder", "table"}  # whose examples lie with whoever trained on them


def model_card(
    name: str, record: Mapping[str, Any], config: Mapping[str, Any], *, license_id: str, artifact: bool
) -> str:
    """The card of a model.

    Args:
      name: what it is called, and the folder it is loaded from. record: of its evaluation, as
        report.record has it. config: the model's config.json. license_id: of the weights, on the
        hub. artifact: whether its StableHLO lies beside it.
    """
    parts = [
        "---",
        *_yaml(_metadata(name, record, license_id)),
        "---",
        "",
        f"# {name}",
        "",
        *_description(record, config),
        "",
        "## Numbers",
        "",
        "| | |",
        "|---|---|",
        *(f"| {title} | {value} |" for title, value in _numbers(record)),
        "",
        *_protocol(record),
        "",
        "## How to load it",
        "",
        "```python",
        *_loading(name, record, config),
        "```",
        "",
        "The number above, from the data set:",
        "",
        "```python",
        *_reproducing(name, record, config),
        "```",
        "",
        "With the same versions, on as many devices of the same kind and in batches of the same size, "
        "it is the same to the last bit.",
        *(_artifact(config) if artifact else []),
        "",
        "## Intended use and limits",
        "",
        *(f"- {limit}" for limit in _limits(record, config)),
        "",
    ]
    return "\n".join(parts)


def _metadata(name: str, r: Mapping[str, Any], license_id: str) -> dict[str, Any]:
    unit, task = unit_of(r["n_bins"]), _task(r)
    return {
        "license": license_id,
        "library_name": "flowjax-glow",
        **({} if r["n_bins"] is None else {"pipeline_tag": task}),
        "tags": ["jax", "normalizing-flow", "exact-likelihood", "density-estimation", r["model"]],
        **({} if r["data_set"] in _OWN_DATA else {"datasets": [r["data_set"]]}),
        "metrics": [unit.field],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": task, "name": "density estimation"},
                        "dataset": {
                            "type": r["data_set"],
                            "name": r["version"],
                            **({} if r["build"] is None else {"config": r["build"]}),
                            "split": r["split"],
                        },
                        "metrics": [
                            {
                                "type": unit.field,
                                "name": f"{unit.symbol} on {r['split']}",
                                "value": r[unit.field],
                            }
                        ],
                    }
                ],
            }
        ],
    }


def _task(r: Mapping[str, Any]) -> str:
    return "density-estimation" if r["n_bins"] is None else "unconditional-image-generation"


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """The lines of nested mappings and lists in YAML; of strings and numbers it has JSON's form."""
    entries = value.items() if isinstance(value, dict) else ((None, entry) for entry in value)
    for key, entry in entries:
        start = f"{indent}-" if key is None else f"{indent}{key}:"
        if not isinstance(entry, dict | list):
            yield f"{start} {json.dumps(entry)}"
        elif key is not None:
            yield start
            yield from _yaml(entry, indent + "  ")
        else:  # the first line of a mapping in a list stands beside the dash
            first, *rest = _yaml(entry, indent + "  ")
            yield f"{start} {first.strip()}"
            yield from rest


def _description(r: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    hyperparameters = ", ".join(
        f"{name} {value}"
        for name, value in config["model"].items()
        if name != "name" and value is not None
    )
    classes = config["model"].get("num_classes")
    given = "" if classes is None else f" It is told the class, one of {classes}."
    return [
        f"A normalizing flow, {r['model']} ({hyperparameters}), trained by flowjax_glow on {_data(r)}, "
        f"{_examples(r)}.{given} It maps an example to its latent code and back, and gives its exact "
        "log-density."
    ]


def _data(r: Mapping[str, Any]) -> str:
    return f"{r['data_set']} ({', '.join(filter(None, (r['build'], r['version'])))})"


def _examples(r: Mapping[str, Any]) -> str:
    if r["n_bins"] is None:
        return f"vectors of {r['event_shape'][0]} numbers"
    height, width, channels = r["event_shape"]
    return f"images of {height}x{width}x{channels} in {r['n_bins']} levels"


def _numbers(r: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from record_rows(dict(r))
    if r["n_bits"] is not None:
        yield "bits of a level", str(r["n_bits"])
    yield "precision", f"{r['precision']}, matrix products {r['matmul_precision']}"
    yield "seed", f"{r['seed']} of the noise, {r['training_seed']} of the training"
    yield "evaluated on", f"{r['devices']} {r['device_kind']} devices"
    yield "versions", ", ".join(f"{name} {version}" for name, version in r["versions"].items())
    yield "commit", str(r["commit"])


def _protocol(r: Mapping[str, Any]) -> list[str]:
    if r["n_bins"] is None:
        return ["Nats are of what the flow is given, in which each number has mean 0 and deviation 1."]
    return [
        f"Every example of the split counts once, as its mean over {r['draws']} draws of the noise "
        "that makes levels continuous. The number bounds the bits that an image takes from above; for "
        "other levels, another K or another build of the data it would be another metric."
    ]


def _loading(name: str, r: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    classes, n_bins = config["model"].get("num_classes"), r["n_bins"]
    lines = ["import jax", "import flowjax_glow as fg", ""]
    lines += [f'flow, params = fg.load_pretrained("{name}")  # the folder that this file is in']
    cond, of = "", ""
    if classes is not None:
        lines += [f"labels = jax.numpy.arange(16) % {classes}"]
        cond, of = ", cond=labels", ", labels"
    temperature = ", temperature=0.7" if n_bins is not None else ""
    lines += [f"x = fg.sample(flow, params, jax.random.key(0), 16{temperature}{cond})"]
    if n_bins is not None:
        lines += [f"images = fg.quantize(x, n_bins={n_bins})  # uint8, 0 .. {n_bins - 1}"]
        lines += [f"x = fg.dequantize(None, images, n_bins={n_bins})"]
    lines += [f"z = fg.encode(flow, params, x{of})  # fg.decode gives x back"]
    return [*lines, f"print(fg.log_prob(flow, params, x{of}))  # nats"]


def _reproducing(name: str, r: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    source = {k: v for k, v in config["data"].items() if k in _SOURCE and v != _SOURCE[k]}
    if r["data_set"] in _OWN_DATA:
        source["path"] = "..."
    options = "".join(f", {k}={v!r}" for k, v in source.items())
    lines = [
        "import jax",
        "import flowjax_glow as fg",
        "from flowjax_glow import data",
        "from flowjax_glow.evaluation import likelihood",
        "from flowjax_glow.sharding import make_mesh",
        "",
        f'flow, params = fg.load_pretrained("{name}")',
        f'dequantizer, noise = fg.pretrained.load_dequantizer("{name}")',
        f'split = data.load("{r["data_set"]}", "{r["split"]}"{options})',
    ]
    n_bits = config["data"].get("n_bits", 8)
    if n_bits != 8:
        lines += [f"split = split._replace(examples=fg.reduce_bits(split.images, {n_bits}))"]
    repeats = f"draws={r['draws']}, importance={r['importance_samples']}"
    conditional = config["model"].get("num_classes") is not None
    return [
        *lines,
        "found = likelihood(",
        f"    flow, params, split, jax.random.key({r['seed']}), dequantizer=dequantizer, noise=noise,",
        f"    {repeats}, conditional={conditional}, mesh=make_mesh(),",
        ")",
        'print(f"{found.mean:.4f}")',
    ]


def _artifact(config: Mapping[str, Any]) -> list[str]:
    shape = ", ".join(map(str, ("batch", *config["event_shape"])))
    labels = "" if config["model"].get("num_classes") is None else ", labels"
    return [
        "",
        "With JAX alone, without this library, on CPU, CUDA or TPU, for batches of any size:",
        "",
        "```python",
        "import jax, jax.numpy as jnp",
        "",
        *(
            f'{name} = jax.export.deserialize(open("{name}.jaxexport", "rb").read()).call'
            for name in ("sample", "log_prob")
        ),
        f"x = sample(jnp.arange(16, dtype=jnp.uint32), jnp.float32(0.7){labels})  # ({shape})",
        f"nats = log_prob(x{labels})  # float32 (batch,)",
        "```",
    ]


def _limits(r: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    what = "vectors" if r["n_bins"] is None else "images"
    yield (
        "For learning and experiments: sampling, latent codes, compression, comparison of flows. It "
        f"knows nothing but {what} like those of {r['data_set']}, and is not for decisions on people."
    )
    yield (
        "Its likelihood does not tell whether an example is of the kind that it was trained on: flows "
        "give some others, such as smoother images, a higher one (Nalisnick et al. 2019, "
        "arXiv:1810.09136)."
    )
    if r["finite_samples"] < 1:
        yield (
            f"Of samples at temperature 1.0 {1 - r['finite_samples']:.2%} overflowed; fewer do at a "
            "lower one."
        )
    yield (
        "It has the biases and gaps of its data. It may have kept single training examples: that was "
        "not examined. The terms of the data may bind what is made of them."
    )
    if r["model"] == "real_nvp":
        yield "Its batch norms use the running statistics that training left, which are in the file."
    if config["columns"]:
        yield (
            "Numbers go in as (value - mean) / deviation, by the columns of config.json, and come out "
            "so."
        )
