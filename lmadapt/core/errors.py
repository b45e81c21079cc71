"""The errors that a user can act on."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A fault that the user can mend.

    The message names the file, line or key, the value, and what is allowed.
    """

    exit_code = 1


class Interrupted(UserError):
    """A signal stopped the process, which kept its work.

    `exit_code` is 75 after SIGTERM, on which schedulers start it again, and 130 after SIGINT.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Unavailable(UserError):
    """A hub, a remote or a server does not answer now; a second try may succeed.

    Its exit code 75 is EX_TEMPFAIL of BSD's sysexits.h; schedulers retry on it.
    """

    exit_code = 75


def did_you_mean(wrong: str, allowed: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return "did you mean `NAME`? " for the allowed name nearest to `wrong`; "" when none is near.

    `cutoff` is the smallest similarity that counts, from 0 to 1, as difflib measures it.
    """
    near = difflib.get_close_matches(wrong, list(allowed), n=1, cutoff=cutoff)
    return f"did you mean `{near[0]}`? " if near else ""
