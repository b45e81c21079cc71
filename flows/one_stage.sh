#!/bin/sh
# The shell DVC runs commands with on an agent ($SHELL): it runs those of the one stage this agent may run.
if [ "$DVC_STAGE" != "$LMADAPT_ONE_STAGE" ]; then
    echo "this agent may run $LMADAPT_ONE_STAGE only: $DVC_STAGE, which comes before it, was not handed over" >&2
    exit 78 # EX_CONFIG of sysexits.h
fi
SHELL=/bin/sh
export SHELL
exec /bin/sh "$@"
