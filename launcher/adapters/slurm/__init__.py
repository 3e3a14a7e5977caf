"""`pilotfish as slurm -- PROGRAM`: a pilot that answers to Slurm's commands.

One process, the *controller*, starts the program with a folder of commands first on its PATH, and answers them over a Unix
socket until the program and its jobs have ended. It does what slurmctld does: ids, dependencies, arrays, holds, requeues, what
squeue and sacct print. What may start it gives to the pilot, one job for each batch job or array element; which cores are free,
who runs where, limits, lost nodes are the pilot's business, as ever.

    options.py     the table: each option of sbatch and srun, and whether it is honoured or refused
    arguments.py   words, #SBATCH lines and SBATCH_* variables -> values by that table
    request.py     those values -> a checked request, and the pilot's job description
    arrays.py dependencies.py   `--array` and `--dependency`
    jobs.py        the queue: pure, events in, decisions out
    fields.py      what each column of squeue and sacct is
    squeue.py sacct.py sinfo.py scontrol.py scancel.py sbatch.py others.py   one command each: words in, text out
    controller.py pilot_link.py   the loop, the clock, the pilot
    connections.py relay.py       how commands reach it: a socket here, files from other nodes
    spool.py view.py              the folder of a job; a job as a row
    client.py batch_step.py       programs of the standard library alone: they start in the time of a bare Python
    job_step.py step_plan.py step_streams.py   `srun` in a job

What machines/slurm_facts.py says Slurm prints is what its commands print here. Rejected: giving dependencies and arrays to the
pilot, whose jobs know `afterok` only and have no limit on how many of their tasks run at once.
"""
