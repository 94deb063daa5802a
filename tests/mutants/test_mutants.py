"""Each mutant is killed by every test that is said to kill it."""

import pytest
from mutants import MUTANTS, failures


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(name):
    mutant = MUTANTS[name]
    assert set(failures(mutant, mutant.killers)) == set(mutant.killers)
