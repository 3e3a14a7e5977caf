#!/bin/bash
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@120
# Runs all of tasks.txt in as many jobs as it takes. The next job waits in the queue from the start, in case this one does not
# get through, whatever ends it.
next=$(sbatch --parsable --dependency=afternotok:"$SLURM_JOB_ID" resubmit.sh)
pilotfish run tasks.txt --continue &
pilot=$!
trap 'kill -USR1 "$pilot"' USR1
while wait "$pilot"; code=$?; [ "$code" -gt 128 ] && kill -0 "$pilot" 2>/dev/null; do :; done
case $code in
    75 | 138) ;;   # the time is over and work is left; or we were warned before the pilot had begun
    *) scancel "$next" ;;
esac
exit "$code"
