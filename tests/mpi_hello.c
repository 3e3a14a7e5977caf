/* Each rank prints "RANK/SIZE HOST CPUS": where it runs, and the processors that it may use. */
#define _GNU_SOURCE
#include <mpi.h>
#include <sched.h>
#include <stdio.h>

int main(int argc, char **argv) {
    char host[MPI_MAX_PROCESSOR_NAME], cpus[4096] = "";
    int rank, size, length, at = 0;
    cpu_set_t set;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Get_processor_name(host, &length);
    sched_getaffinity(0, sizeof set, &set);
    for (int cpu = 0; cpu < CPU_SETSIZE && at < 4000; cpu++)
        if (CPU_ISSET(cpu, &set)) at += sprintf(cpus + at, at ? ",%d" : "%d", cpu);
    printf("%d/%d %s %s\n", rank, size, host, cpus);
    MPI_Finalize();
    return 0;
}
