/* The limit: how fast one thread can spawn and reap N no-op processes with S of them at a time.
   limit N S [FOLDER]: with a folder each process gets stdout and stderr files of its own in it. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void spawn_one(posix_spawnattr_t *attributes, const char *folder, int number) {
    char *argv[] = {"/bin/true", NULL};
    char out[512], err[512];
    posix_spawn_file_actions_t actions, *given = NULL;
    pid_t pid;
    if (folder) {
        snprintf(out, sizeof out, "%s/%d.out", folder, number);
        snprintf(err, sizeof err, "%s/%d.err", folder, number);
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        posix_spawn_file_actions_addopen(&actions, 2, err, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        given = &actions;
    }
    if (posix_spawn(&pid, argv[0], given, attributes, argv, environ)) {
        perror("posix_spawn");
        exit(1);
    }
    if (given)
        posix_spawn_file_actions_destroy(given);
}

int main(int argc, char **argv) {
    int total = atoi(argv[1]), slots = atoi(argv[2]), started = 0, running = 0, ended = 0, status;
    const char *folder = argc > 3 ? argv[3] : NULL;
    struct rusage usage;
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    double begin = now();
    while (ended < total) {
        for (; running < slots && started < total; running++)
            spawn_one(&attributes, folder, started++);
        wait4(-1, &status, 0, &usage);
        running--;
        ended++;
    }
    printf("%.9f\n", now() - begin);
    return 0;
}
