"""The benchmarks' own arithmetic: operations, tables, collectives, and the workers' protocol."""

import json
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax_glow as fg
from benchmarks import flops, harness, scaling
from benchmarks.peers import data, protocol

SIZES = {"size": 16, "levels": 2, "depth": 1, "width": 128, "batch": 8}


def _cost(fn, *arguments) -> float:
    analysis = jax.jit(fn).lower(*arguments).compile().cost_analysis()
    assert analysis is not None
    return analysis["flops"]


def test_operations_are_those_that_xla_counts():
    # At depth 1 the scan is a body that runs once, so that the compiler's count is of the whole model.
    size = SIZES["size"]
    flow = fg.glow((size, size, 3), levels=SIZES["levels"], depth=1, width=SIZES["width"])
    x = jnp.asarray(data.images(SIZES["batch"], size))
    params = fg.init(flow, jax.random.key(0), x)
    ours = flops.total(flops.glow_products(**SIZES), training=False)
    theirs = _cost(partial(fg.log_prob, flow), params, x)
    # XLA also counts what is no matrix product (one in 20 here, fewer with width); no more than that.
    assert 0.95 * theirs < ours < theirs


def test_a_product_is_counted_as_xla_counts_it():
    product = flops.Product("", 64, 27, 32, 1)
    a, b = jnp.ones((product.m, product.k)), jnp.ones((product.k, product.n))
    assert product.flops == _cost(jnp.matmul, a, b)
    assert flops.total([product], training=True) == 3 * product.flops


def test_the_fullsize_model_has_the_operations_of_its_weights():
    # An image passes every weight of a convolution once a position: 2 operations each.
    products = flops.glow_products(size=32, levels=3, depth=32, width=512, batch=1)
    mixes = [p for p in products if p.name.endswith("mix")]
    assert [p.flops for p in mixes] == [2 * side**2 * 512**2 * 32 for side in (16, 8, 4)]


def test_tables_and_records_are_written(tmp_path, capsys):
    table = harness.table(["a", "b"], [["x|y", 1234.5], [None, 0.01234], [3, "line\nbreak"]])
    assert table.splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| x/y | 1234 |",
        "|  | 0.0123 |",
        "| 3 | line break |",
    ]
    harness.write("example", {"b": [1, 2], "a": None}, table, tmp_path)
    assert json.loads((tmp_path / "example.json").read_text()) == {"a": None, "b": [1, 2]}
    assert (tmp_path / "example.md").read_text() == capsys.readouterr().out == table + "\n"


def test_the_machine_is_described_without_its_name():
    import platform

    assert platform.node() not in json.dumps(harness.machine())


def test_collectives_are_found_with_their_bytes_and_loops():
    hlo = """HloModule m
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %s = f32[] add(%a, %b)
}
%body (p: (f32[8,4])) -> (f32[8,4]) {
  %g = f32[8,4]{1,0} get-tuple-element(%p), index=0
  ROOT %r = f32[8,4]{1,0} all-reduce(%g), replica_groups={{0,1}}, to_apply=%add
}
ENTRY %main (x: f32[3], y: bf16[2,5]) -> f32[3] {
  %x = f32[3]{0} parameter(0)
  %y = bf16[2,5]{1,0} parameter(1)
  %w = (f32[8,4]) while(%t), condition=%cond, body=%body
  ROOT %z = (f32[3]{0}, bf16[2,5]{1,0}) all-reduce(%x, %y), to_apply=%add
}
"""
    inside, outside = scaling.collectives(hlo)
    assert inside == {"op": "all-reduce", "operands": 1, "bytes": 128, "in_loop": True}
    assert outside == {"op": "all-reduce", "operands": 2, "bytes": 12 + 20, "in_loop": False}


def test_a_ring_sends_what_a_ring_sends():
    system = scaling.System(peak=1.0, inside=100.0, domain=4, axes=1, between=10.0)
    assert scaling.all_reduce_seconds(400.0, 1, system) == 0.0
    inside = 2 * 3 / 4 * 400.0 / 100.0 + 6 * scaling.HOP
    assert scaling.all_reduce_seconds(400.0, 4, system) == pytest.approx(inside)
    between = 2 * 1 / 2 * 100.0 / 10.0 + 2 * scaling.HOP
    assert scaling.all_reduce_seconds(400.0, 8, system) == pytest.approx(inside + between)


def test_moons_have_the_density_that_is_said():
    points = data.moons(4000, seed=0)
    grid = np.stack(np.meshgrid(np.linspace(-1.5, 2.5, 101), np.linspace(-1.0, 1.5, 63)), axis=-1)
    density = np.exp(data.moons_log_density(grid.reshape(-1, 2), angles=300))
    assert np.sum(density) * (4.0 / 100) * (2.5 / 62) == pytest.approx(1.0, abs=1e-3)
    # 4,000 points leave a standard error of 0.011.
    assert -data.moons_log_density(points, angles=300).mean() == pytest.approx(0.29, abs=0.05)


def test_the_fastest_setting_is_kept_and_failures_are_told():
    import time

    def make(seconds):
        return lambda: (lambda steps: time.sleep(seconds * steps), {"note": seconds})

    def broken():
        raise ValueError("no such kernel\nand more")

    settings = {"slow": make(0.02), "broken": broken, "fast": make(0.002)}
    _, record = protocol.prepare(settings, only=None, box=0, steps=1)
    assert record["setting"] == "fast"
    assert record["note"] == 0.002
    assert record["tried"]["broken"] == {"error": "ValueError: no such kernel"}


def test_a_worker_answers_a_line_for_a_line():
    code = """
import sys
from benchmarks.peers import protocol

def build(options):
    print("not an answer")
    run = lambda steps: None
    return protocol.Worker({"train": {"only": lambda: (run, {})}}, {"double": lambda x: 2 * x})

protocol.serve(build)
"""
    requests = [
        {"do": "prepare", "task": "train"},
        {"do": "run", "task": "train", "steps": 3},
        {"do": "call", "name": "double", "x": 4},
        {"do": "dance"},
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, "{}"],
        input="".join(json.dumps(r) + "\n" for r in requests),
        capture_output=True,
        text=True,
        check=True,
        cwd=harness.ROOT,
        timeout=60,
    )
    ready, prepared, ran, called, refused = map(json.loads, done.stdout.splitlines())
    assert ready["ready"]
    assert prepared["setting"] == "only"
    assert ran["seconds"] >= 0
    assert called["value"] == 8
    assert "dance" in refused["error"]


def test_a_peer_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "ENVIRONMENTS", tmp_path)
    workers, failures = harness.start(["normflows"], {})
    assert not workers
    assert "bench-env" in failures["normflows"]
