"""What `make bench NAME=mutants` breaks is still there to be broken: its text stands once in its file, and its tests exist."""

from __future__ import annotations

from tests.bench.mutants import MUTANTS, ROOT, missing


def test_each_mutant_can_still_be_made_and_its_tests_exist() -> None:
    assert missing() == []
    tests = {test.partition("::")[0] for mutant in MUTANTS for test in mutant.tests}
    assert [test for test in sorted(tests) if not (ROOT / test).exists()] == []
    assert all(mutant.old != mutant.new for mutant in MUTANTS)
