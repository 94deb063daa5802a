"""What tests/soak.py tries many times, tried a few times."""

import pytest
from soak import FAULTS


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_survived(name, tmp_path):
    tried, survived = FAULTS[name].run(FAULTS[name].reduced, tmp_path)
    if tried == 0:
        pytest.skip("cannot be tried here")
    assert survived == tried
