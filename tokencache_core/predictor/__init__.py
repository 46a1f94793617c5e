"""What a training gives, and the file that keeps it: the Cache Predictor, the learned forecast, the LoRA repair.

Uses engine and what is below it, and files.
"""
