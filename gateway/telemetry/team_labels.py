"""The values of the label `team`: a limited number of teams, and `other`."""

from collections.abc import Callable, Iterable

from gateway.catalogue import Catalogue

# Further teams share the label OTHER, so that the number of series has a limit.
MAX_TEAMS = 40
OTHER = "other"


class TeamLabels:
    """Chooses the teams that have a label of their own, for all metrics of a process.

    These are the first teams of the configuration, in its order; if there are fewer, then former teams by name. Nothing
    else counts, so that all replicas of one configuration choose alike, whenever they started.
    """

    def __init__(self, get_catalogue: Callable[[], Catalogue]) -> None:
        self.get_catalogue = get_catalogue
        self._catalogue: Catalogue | None = None
        self._booked_teams: list[str] = []
        self._labels: frozenset[str] = frozenset()

    def set_booked_teams(self, teams: Iterable[str]) -> None:
        """Sets the teams that have money in the store. Those that are not configured are former ones."""
        self._booked_teams = sorted(teams)
        self._catalogue = None

    def get_label(self, team: str) -> str:
        catalogue = self.get_catalogue()
        if catalogue is not self._catalogue:
            former_teams = (name for name in self._booked_teams if name not in catalogue.teams)
            self._labels = frozenset([*catalogue.teams, *former_teams][:MAX_TEAMS])
            self._catalogue = catalogue
        return team if team in self._labels else OTHER
