"""Measures of likeness: PSNR and SSIM of pairs of pictures, Frechet distances of sets of pictures.

Uses no other room.
"""
