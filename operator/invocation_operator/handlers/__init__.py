"""The rooms that know kopf: what the watches say goes into the workbenches, nothing else happens here.

Only event handlers are registered: they leave no annotation on objects and add no finalizer, so kopf's bookkeeping
never becomes the guard of execution and never holds a deletion up.
"""
