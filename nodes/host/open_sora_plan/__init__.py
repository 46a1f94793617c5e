"""Open-Sora-Plan in ComfyUI: its transformer as a MODEL, its VAE, its prompts and its latents."""
