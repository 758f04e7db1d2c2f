"""The kinds of the group ``ops.restate.dev`` as people write them and the operator reports them. No logic."""
