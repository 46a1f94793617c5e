"""Sampling a diffusion model: samplers, the sigmas of a run, and one variable for how noisy a latent is.

Uses no other room.
"""
