"""The parts that a training produces (Cache Predictor, learned forecasts, LoRA repair) and the file that holds them.

May import the engine, the rooms below it, and files.
"""
