"""Everything that talks to ComfyUI: hooks on its model patcher, runs through its samplers, and the host's side of
training, tuning, calibrating and comparing.
"""
