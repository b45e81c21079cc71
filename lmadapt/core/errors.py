"""The errors a user can act on."""


class UserError(Exception):
    """Something the user can put right; the message names the file, line or key, the value, and what is allowed."""

    exit_code = 1


class Interrupted(UserError):
    """The process was told to end and did, with its work kept; 75 after SIGTERM (come again), 130 after SIGINT."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Unavailable(UserError):
    """Something outside, such as a hub, a remote or a server, cannot be reached now: a second try may pass.

    Its exit code 75 is EX_TEMPFAIL of BSD's sysexits.h; schedulers retry on it.
    """

    exit_code = 75
