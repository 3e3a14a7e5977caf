/* What a hostile site does, told by the environment. LD_PRELOAD'ed by the tests; see places.py.
   SHIM_LOCKS=ERRNO   file locks give this error
   SHIM_SYNC=SECONDS  fsync and fdatasync take so long
   SHIM_FORK=ERRNO    no process and no thread can be started */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

static int asked(const char *name) { const char *value = getenv(name); return value ? atoi(value) : 0; }
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

int flock(int fd, int how) {
    int number = asked("SHIM_LOCKS");
    if (number) { errno = number; return -1; }
    return ((int (*)(int, int))real("flock"))(fd, how);
}

#define FCNTL(name)                                                                             \
    int name(int fd, int command, ...) {                                                        \
        va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest); \
        int number = asked("SHIM_LOCKS");                                                       \
        if (number && (command == F_SETLK || command == F_SETLKW)) { errno = number; return -1; } \
        return ((int (*)(int, int, ...))real(#name))(fd, command, argument);                    \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

static void wait_for_disk(void) {
    const char *seconds = getenv("SHIM_SYNC");
    if (seconds) usleep((useconds_t)(atof(seconds) * 1e6));
}
int fsync(int fd) { wait_for_disk(); return ((int (*)(int))real("fsync"))(fd); }
int fdatasync(int fd) { wait_for_disk(); return ((int (*)(int))real("fdatasync"))(fd); }

pid_t fork(void) {
    int number = asked("SHIM_FORK");
    if (number) { errno = number; return -1; }
    return ((pid_t (*)(void))real("fork"))();
}
pid_t vfork(void) { return fork(); }
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *how,
                char *const argv[], char *const envp[]) {
    int number = asked("SHIM_FORK");
    if (number) return number;
    return ((int (*)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                     char *const[]))real("posix_spawn"))(pid, path, actions, how, argv, envp);
}
int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*start)(void *), void *argument) {
    int number = asked("SHIM_FORK");
    if (number) return number;
    return ((int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))real("pthread_create"))(
        thread, how, start, argument);
}
