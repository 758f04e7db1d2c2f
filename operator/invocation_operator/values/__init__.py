"""Small values that every room shares: lengths of time, instants, invocation ids. Imports nothing of ours."""
