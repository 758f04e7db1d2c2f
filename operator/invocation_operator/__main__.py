"""``python -m invocation_operator``."""

from invocation_operator.cli import main

if __name__ == "__main__":
    main()
