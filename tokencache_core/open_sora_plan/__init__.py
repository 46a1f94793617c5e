"""Open-Sora-Plan 1.1 (PKU-YuanGroup), a text-to-video transformer in the manner of Latte, and its causal video VAE.

May import runs, the rooms below it, files, and the words' table of flux.
"""
