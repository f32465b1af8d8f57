"""`python -m checkpoint_runner` is the command line."""

from checkpoint_runner.cli import main

main(prog_name="checkpoint-runner")
