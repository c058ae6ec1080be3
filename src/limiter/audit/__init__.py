"""Records what a limiter decides, and judges such records by separate arithmetic; may import core.

The judge imports only errors and units of time, so it shares no code with the limiter.
"""

from __future__ import annotations

from .checker import judge, judge_history
from .history import Recorder, record
from .reader import History, read
from .verdict import Finding, Span, Verdict

__all__ = ["Finding", "History", "Recorder", "Span", "Verdict", "judge", "judge_history", "read", "record"]
