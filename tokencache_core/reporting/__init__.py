"""What people are shown of a finished run: advice, panels, heatmaps, the player's data.

Uses the engine's records, and blocks.
"""
