"""The `ecdctr` script, and `python -m ecdctr_spark`: what a command needs is imported here, so that Ctrl-C or SIGTERM
ends that in one line too."""

import signal
import sys


def main() -> None:
    """Runs the command of sys.argv; see cli.script."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from ecdctr_spark.cli import script

        script()
    except KeyboardInterrupt:  # before the command began, or after it ended
        sys.stderr.write("error: interrupted; the same command resumes\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
