"""``python -m durable.cli`` is the command `durable`."""

from durable.cli import main

if __name__ == "__main__":
    main()
