"""The kit's own fixture, also where the plugin's entry point is not installed."""

from checkpoint_runner.testing.plugin import _checkpoints_url, checkpoints

__all__ = ["_checkpoints_url", "checkpoints"]
