"""Where in a run its I-steps should lie, found by trial on real runs: small moves, kept where they help.

Known models' places (schedules/known_models.py) serve any model. One model's own run, though, has stretches over which
it is easily forecast and others where it turns, and the errors of neighbouring windows cancel or add up; trying finds
what no rule does (docs/experiments.md). A hill climb over as many I-steps as before, so that no run takes longer than
another. Simulation, where there is one, says which move to try next.
"""

from __future__ import annotations

from random import Random

from ..schedules.place_climb import Errors, neighbours

PATIENCE = 40  # moves in a row that did not help, after which the search ends
ELSEWHERE = 0.2  # of the moves take one I-step to any other place
NEIGHBOURS = (
    1,
    1,
    1,
    2,
    3,
)  # I-steps next to each other that other moves shift together; beside these, all that follow


def moved(places: tuple[int, ...], steps: int, random: Random) -> tuple[int, ...]:
    """As many I-steps of a run of `steps`, a little differently: not always a list that rises, or that is new. Step 0
    stays.
    """
    if random.random() < ELSEWHERE:
        kept = set(places) - {random.choice(places[1:])}
        return tuple(sorted(kept | {random.choice([step for step in range(1, steps) if step not in places])}))
    first = random.randrange(1, len(places))
    last = first + random.choice((*NEIGHBOURS, len(places)))
    by = random.choice((-1, 1))
    return tuple(place + by if first <= index < last else place for index, place in enumerate(places))


class PlaceSearch:
    """From `places` of a run of `steps`, whose value is `value`; None: not known, so they are the first to be tried.

    errors: of simulated runs, the promising ones first; None: moves are drawn at random.
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
        self.in_vain = 0

    def propose(self) -> tuple[int, ...] | None:
        """What to try next; None where nothing has helped for long, or nothing new was found."""
        if self.value is None:
            return self.places
        if self.in_vain >= PATIENCE or not 1 < len(self.places) < self.steps:
            return None
        if self.errors is not None:
            return self._most_promising()
        for _ in range(50 * PATIENCE):
            places = moved(self.places, self.steps, self.random)
            rises = all(a < b for a, b in zip(places, places[1:])) and places[-1] < self.steps
            if rises and places not in self.seen:
                self.seen.add(places)
                return places
        return None

    def _most_promising(self) -> tuple[int, ...] | None:
        beside = [places for places in neighbours(self.places, self.steps) if places not in self.seen]
        if not beside:
            return None
        places = beside[int(self.errors(beside).argmin())]
        self.seen.add(places)
        return places

    def learn(self, places: tuple[int, ...], value: float) -> bool:
        """That `places`, which were proposed, have `value`; whether it is the most so far."""
        if self.value is None or value > self.value:  # no number is more than another that is none
            self.places, self.value, self.in_vain = places, value, 0
            return True
        self.in_vain += 1
        return False
