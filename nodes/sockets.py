"""The pack's own types of connection between nodes."""

from __future__ import annotations

from comfy_api.latest import io

PredictorType = io.Custom("TOKENCACHE_PREDICTOR")
PresetType = io.Custom("TOKENCACHE_PRESET")
ReportType = io.Custom("TOKENCACHE_REPORT")
ScheduleType = io.Custom("I_STEP_SCHEDULE")
