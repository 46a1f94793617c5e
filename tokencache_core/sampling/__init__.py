"""Sampling of diffusion models: samplers, sigma schedules, and a model-independent measure of the noise in a latent.

Uses no other room.
"""
