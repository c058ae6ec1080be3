"""Records what a limiter decides, and judges such records from the outside, by arithmetic of its own.

Imports errors and units of time only, so that the judge shares no code with what it judges.
"""

from __future__ import annotations

from .checker import judge, judge_history
from .history import Recorder, record
from .reader import History, read
from .verdict import Finding, Span, Verdict

__all__ = ["Finding", "History", "Recorder", "Span", "Verdict", "judge", "judge_history", "read", "record"]
