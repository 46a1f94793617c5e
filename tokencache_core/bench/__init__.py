"""The benchmark: the cache beside what else the time could buy, by the clock.

Uses dit, tuning and what is below them.
"""
