"""Training of the Cache Predictor, the learned forecasts and the LoRA repair on a model's own runs, without a data set.

May import runs, predictor and the rooms below them.
"""
