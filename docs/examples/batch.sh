#!/bin/bash
# Runs as it is on one machine. Under a batch system put its lines (#SBATCH ...) here; this version uses the first node.
set -e
pilotfish service --wd run --file-path requests.json --report-format json
