"""Open-Sora-Plan 1.0 to 1.3 (PKU-YuanGroup): its text-to-video transformers, in the manner of Latte (model.py) and with
skip-sparse attention (skip_sparse.py), and their files. Its VAEs have a room within, `vae`.

May import runs, the rooms below it, files, and the words' table of flux.
"""
