"""Long and cruel scenarios against the real servers, and the parts that they share with the tests that gate.

`make chaos` runs the `test_*` modules here; `tests/operator/test_once_*` plays smaller rounds of the same.
"""
