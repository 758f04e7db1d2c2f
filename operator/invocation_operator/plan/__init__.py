"""Pure decisions: what a specification and an observation amount to. No I/O, clock or randomness.

``reconcile`` gathers, asks these rooms, acts, and writes what they return.
"""
