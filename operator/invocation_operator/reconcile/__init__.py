"""Gather, decide, act, write: what ``handlers`` call. One file for each kind, and the executor they share."""
