#!/bin/sh
# An agent has DVC run its commands with this shell ($SHELL): it runs those of one stage only.
if [ "$DVC_STAGE" != "$LMADAPT_ONE_STAGE" ]; then
    echo "this agent may only run $LMADAPT_ONE_STAGE;" \
        "$DVC_STAGE, which comes before it, was not handed over" >&2
    exit 78 # EX_CONFIG of sysexits.h
fi
SHELL=/bin/sh
export SHELL
exec /bin/sh "$@"
