"""Presentation of a finished run: advice, panels, heatmaps, and data for the player on the page.

Uses the engine's records, and blocks.
"""
