"""Real faults on real servers: what is done to them, and what it must not cost. The mutants show that the checks see.

`pytest tests/faults` runs the fast part, `pytest tests/faults --full` everything. Each test is marked with the number
of its row (`@pytest.mark.row(17)`) and adds what it found to the `ledger`; the table comes at the end of the run.
"""
