"""Measurements on real servers. Absolute figures belong to a machine; the ratios within one run travel better."""
