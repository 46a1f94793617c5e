"""How alike pictures are: PSNR and SSIM of pairs, Frechet distances of sets.

Uses no other room.
"""
