"""The demo: real servers, a short story on the screen, and a check of every effect in the engine itself."""
