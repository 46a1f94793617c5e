"""A search for better places of a run's I-steps by trial on real runs: small moves, kept if they help.

The places of known models (schedules/known_models.py) suit any model. But one model's own run has stretches that are
easy to forecast and others where it turns, and the errors of neighbouring windows cancel or add up; trials find what no
rule does (docs/findings/places-at-50-steps.md). The search is a hill climb that keeps the number of I-steps, so that
all runs take the same time. If runs can be simulated, simulation says which move to try next.
"""

from __future__ import annotations

from random import Random

from ..schedules.place_climb import Errors, long_shifts, small_moves

PATIENCE = 40  # the search ends after so many moves in a row without improvement
JUMPS = 0.2  # share of the moves that take one I-step to any other place; the others shift neighbouring ones
SHIFTED = (1, 1, 1, 2, 3)  # how many neighbouring I-steps are shifted together (drawn; or all that follow)
DRAWS = 50 * PATIENCE  # random moves after which there seems to be no new one


def moved(places: tuple[int, ...], steps: int, random: Random) -> tuple[int, ...]:
    """A random variation of `places`, with as many I-steps; it may be invalid (not rising) or already known.

    places: I-steps of a run of `steps`, rising; step 0 stays one.
    """
    if random.random() < JUMPS:
        kept = set(places) - {random.choice(places[1:])}
        return tuple(sorted(kept | {random.choice([step for step in range(1, steps) if step not in places])}))
    first = random.randrange(1, len(places))
    last = first + random.choice((*SHIFTED, len(places)))
    by = random.choice((-1, 1))
    return tuple(place + by if first <= index < last else place for index, place in enumerate(places))


class PlaceSearch:
    """A hill climb over the places of I-steps: `propose` says what to try next, `learn` takes its value.

    places: the starting point.
    steps: number of steps of the run.
    value: the value of `places`; None if unknown: then they are tried first.
    seed: of random moves.
    errors: measures simulated runs, and moves with the smallest error are tried first; None: moves are drawn at random.
    """

    def __init__(
        self,
        places: tuple[int, ...],
        steps: int,
        value: float | None = None,
        seed: int = 0,
        errors: Errors | None = None,
    ) -> None:
        self.places, self.steps, self.value, self.errors = places, steps, value, errors
        self.random = Random(seed)
        self.seen = {places}
        self.failures = 0

    def propose(self) -> tuple[int, ...] | None:
        """The places to try next; None if the last PATIENCE moves did not help, or if there is nothing new to try."""
        if self.value is None:
            return self.places
        if self.failures >= PATIENCE or not 1 < len(self.places) < self.steps:
            return None
        if self.errors is not None:
            return self._most_promising(self.errors)
        for _ in range(DRAWS):
            places = moved(self.places, self.steps, self.random)
            rises = all(a < b for a, b in zip(places, places[1:])) and places[-1] < self.steps
            if rises and places not in self.seen:
                self.seen.add(places)
                return places
        return None

    def _most_promising(self, errors: Errors) -> tuple[int, ...] | None:
        moves = (*small_moves(self.places, self.steps), *long_shifts(self.places, self.steps))
        untried = [places for places in moves if places not in self.seen]
        if not untried:
            return None
        places = untried[int(errors(untried).argmin())]
        self.seen.add(places)
        return places

    def learn(self, places: tuple[int, ...], value: float) -> bool:
        """Take the value of the proposed `places`; returns whether it is the best so far."""
        if self.value is None or value > self.value:  # False for NaN
            self.places, self.value, self.failures = places, value, 0
            return True
        self.failures += 1
        return False
