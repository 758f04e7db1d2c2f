"""The target language: which invocations a resource means, as SQL for the engine and as the same predicate in Python.

The way through: ``narrow.problems`` refuses, ``freeze.freeze`` makes relative times absolute and fills in default
statuses, ``sql`` asks the engine, ``predicate.matches`` says the same of a row already read. ``filters`` holds both
readings of every filter side by side. Pure: the engine's clock comes in as an argument.
"""
