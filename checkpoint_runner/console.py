"""Logging for the command line's processes."""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def start_logging(level: int = logging.INFO) -> None:
    """Write the log of this process to standard error, unless logging was configured before."""
    logging.basicConfig(level=level, format=FORMAT, stream=sys.stderr)
    for name in ("rq.worker", "rq.job"):  # ours tells the same, by job instead of by delivery
        logging.getLogger(name).setLevel(logging.WARNING)
