"""The causal video VAEs of Open-Sora-Plan: that of 1.1 and 1.2 (causal_vae.py), WF-VAE of 1.3 (wavelet_vae.py), their
tiles, and their files. No transformer is needed for them.

May import the files of the release (`open_sora_plan`), and files.
"""
