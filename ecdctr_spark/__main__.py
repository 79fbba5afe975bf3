"""The `ecdctr` script, and `python -m ecdctr_spark`: what a command needs is imported here, so that Ctrl-C ends that in
one line too."""

import sys


def main() -> None:
    """Runs the command of sys.argv; see cli.script."""
    try:
        from ecdctr_spark.cli import script

        script()
    except KeyboardInterrupt:  # before the command began, or after it ended
        sys.stderr.write("error: interrupted; the same command resumes\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
