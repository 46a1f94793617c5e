"""The benchmark: the cache compared, by the clock, with what else the same time could buy.

May import dit, tuning and the rooms below them.
"""
