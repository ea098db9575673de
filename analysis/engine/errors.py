"""Why a bundle cannot be worked on that way; messages say what to do."""


class SpillError(Exception):
    """A folder that packets should go to holds something else."""


class ClusterError(Exception):
    """Dask cannot do it."""


class ArchiveError(Exception):
    """There, or of that, no archive can be made."""
