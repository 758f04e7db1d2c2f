"""The same servers as in `tests/`, for rounds that take too long to gate."""

from e2e.scenarios.fixtures import quiet_control_plane, world
from tests.conftest import engine, engine_old, lab

__all__ = ["engine", "engine_old", "lab", "quiet_control_plane", "world"]
