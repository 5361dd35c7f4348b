/* Intercepts a process's calls to the file system, by LD_PRELOAD: records, in order, every change and every sync below
 * one directory; makes the n-th call of a kind fail; or ends the process, or cuts the power of its file system, at the
 * n-th call. tests/faults/shim.rs compiles it, starts processes with it and documents the trace.
 *
 *   ANNALS_SHIM_ROOT   the absolute path of the directory; without it the shim does nothing
 *   ANNALS_SHIM_ACKS   a file outside it; writes to it are recorded in the trace, in order with the changes
 *   ANNALS_SHIM_TRACE  the file to which the trace is appended
 *   ANNALS_SHIM_FAULT  kind, n, 1 if forever, and an errno or KILL or CUT: "s 3 0 5" fails the third sync with EIO
 *   ANNALS_SHIM_ONLY   the suffix of the names that the fault applies to: ".sst"
 *   ANNALS_SHIM_FIRED  the file that records the calls that were hit
 *   ANNALS_SHIM_SYNC   duration of a simulated sync in microseconds; without it syncs are real
 *
 * Everything except the wait for a sync holds one lock, so the trace has the order of the calls. System calls are made
 * directly, so the shim never calls back into libc. A call that cannot be recorded aborts. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define KILL 1000
#define CUT 1001
#define FDS 65536
#define PATH_LEN 4096

/* The recorded operations; the letters are those of enum Op in shim.rs. */
enum { CREATE = 'C', WRITE = 'W', TRUNCATE = 'T', BEGIN_SYNC = 'B', END_SYNC = 'E', RENAME = 'R', UNLINK = 'U',
       MKDIR = 'M', RMDIR = 'D', LINK = 'L', ACK = 'K' };

struct record {
    uint64_t ino, at;
    int32_t result;
    uint32_t path_len, data_len;
    char op, pad[3];
};

static struct { uint64_t ino; char watched, acks, fails; } fds[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_LEN], acks[PATH_LEN], fired[PATH_LEN], only[64];
static int trace = -1;
static long sync_us = -1;
static struct { char kind; long n; int ever, what; long count; } fault;
static int has_fired;

static void die(const char *what) {
    dprintf(2, "shim: %s\n", what);
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *value = getenv("ANNALS_SHIM_ROOT");
    if (!value) return;
    snprintf(root, sizeof root, "%s", value);
    if ((value = getenv("ANNALS_SHIM_ACKS"))) snprintf(acks, sizeof acks, "%s", value);
    if ((value = getenv("ANNALS_SHIM_FIRED"))) snprintf(fired, sizeof fired, "%s", value);
    if ((value = getenv("ANNALS_SHIM_ONLY"))) snprintf(only, sizeof only, "%s", value);
    if ((value = getenv("ANNALS_SHIM_SYNC"))) sync_us = atol(value);
    if ((value = getenv("ANNALS_SHIM_FAULT"))
        && sscanf(value, "%c %ld %d %d", &fault.kind, &fault.n, &fault.ever, &fault.what) != 4)
        die("invalid ANNALS_SHIM_FAULT");
    if ((value = getenv("ANNALS_SHIM_TRACE"))) {
        trace = syscall(SYS_open, value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (trace < 0) die("the trace cannot be opened");
    }
}

static void note(char op, uint64_t ino, uint64_t at, int result, const char *path, const void *data, size_t len) {
    if (trace < 0) return;
    struct record record = { ino, at, result, path ? strlen(path) : 0, len, op, { 0 } };
    struct iovec parts[] = { { &record, sizeof record }, { (void *)path, record.path_len }, { (void *)data, len } };
    ssize_t all = sizeof record + record.path_len + len;
    if (syscall(SYS_writev, trace, parts, 3) != all) die("the trace cannot be written");
}

/* The absolute path; 0 if it is outside the directory. */
static int is_watched(int at, const char *path, char *full) {
    if (!root[0] || !path) return 0;
    if (path[0] == '/') {
        snprintf(full, PATH_LEN, "%s", path);
    } else {
        char link[64];
        if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t len = syscall(SYS_readlink, link, full, PATH_LEN - 1);
        if (len < 0) return 0;
        snprintf(full + len, PATH_LEN - len, "/%s", path);
    }
    size_t len = strlen(full);
    while (len > 1 && full[len - 1] == '/') full[--len] = 0;
    size_t root_len = strlen(root);
    return !strncmp(full, root, root_len) && (full[root_len] == '/' || !full[root_len]);
}

static int is_watched_fd(int fd) { return root[0] && fd >= 0 && fd < FDS && fds[fd].watched; }

static uint64_t ino_of(const char *path) {
    struct stat found;
    return syscall(SYS_newfstatat, AT_FDCWD, path, &found, AT_SYMLINK_NOFOLLOW) ? 0 : found.st_ino;
}

static void path_of(const char *path, int fd, char *place) {
    if (path) {
        snprintf(place, PATH_LEN, "%s", path);
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = syscall(SYS_readlink, link, place, PATH_LEN - 1);
        place[len < 0 ? 0 : len] = 0;
    }
}

static void tell(char kind, const char *place) {
    char line[PATH_LEN + 64];
    int out = syscall(SYS_open, fired, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int len = snprintf(line, sizeof line, "%c %s\n", kind, place);
    if (out >= 0) { syscall(SYS_write, out, line, len); syscall(SYS_close, out); }
}

/* Whether this call must fail; sets errno. Called under the lock, before the call does anything. `*` is any change. */
static int hit(char kind, const char *path, int fd) {
    if (!fault.n || (fault.kind != kind && !(fault.kind == '*' && kind != 'o' && kind != 'r'))) return 0;
    char place[PATH_LEN];
    if (only[0]) {
        path_of(path, fd, place);
        size_t len = strlen(place), end = strlen(only);
        if (len < end || strcmp(place + len - end, only)) return 0;
    }
    fault.count++;
    if (fault.count < fault.n || (!fault.ever && fault.count > fault.n)) return 0;
    if (!has_fired) {
        has_fired = 1;
        path_of(path, fd, place);
        tell(kind, place);
    }
    if (fault.what == CUT) {
        uint32_t no_log_flush = 2;
        int at = syscall(SYS_open, root, O_RDONLY | O_DIRECTORY);
        if (at < 0 || syscall(SYS_ioctl, at, 0x8004587dUL /* _IOR('X', 125, u32) */, &no_log_flush)) die("no shutdown");
    }
    if (fault.what == CUT || fault.what == KILL) syscall(SYS_exit_group, 0);
    errno = fault.what;
    return 1;
}

static void enter(void) { pthread_mutex_lock(&lock); }
static int leave(long result) {
    int kept = errno;
    pthread_mutex_unlock(&lock);
    errno = kept;
    return result;
}

static int do_open(int at, const char *path, int flags, mode_t mode) {
    char full[PATH_LEN];
    if (!is_watched(at, path, full)) {
        int fd = syscall(SYS_openat, at, path, flags, mode);
        if (fd >= 0 && fd < FDS) {
            fds[fd].watched = 0;
            fds[fd].acks = acks[0] && path[0] == '/' && !strcmp(path, acks);
        }
        return fd;
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) die("O_TMPFILE");
    enter();
    if (hit('o', full, -1)) return leave(-1);
    struct stat before;
    int was_there = !syscall(SYS_newfstatat, AT_FDCWD, full, &before, 0);
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= FDS) die("too many files");
    if (fd >= 0) {
        struct stat found;
        syscall(SYS_fstat, fd, &found);
        fds[fd].ino = found.st_ino;
        fds[fd].watched = 1;
        fds[fd].acks = fds[fd].fails = 0;
        if (!was_there) note(CREATE, found.st_ino, 0, 0, full, NULL, 0);
        else if ((flags & O_TRUNC) && before.st_size) note(TRUNCATE, found.st_ino, 0, 0, NULL, NULL, 0);
    }
    return leave(fd);
}

#define MODE(flags) ({ mode_t m = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list list; va_start(list, flags); m = va_arg(list, mode_t); va_end(list); } m; })
int open(const char *path, int flags, ...) { return do_open(AT_FDCWD, path, flags, MODE(flags)); }
int open64(const char *path, int flags, ...) { return do_open(AT_FDCWD, path, flags, MODE(flags)); }
int openat(int at, const char *path, int flags, ...) { return do_open(at, path, flags, MODE(flags)); }
int openat64(int at, const char *path, int flags, ...) { return do_open(at, path, flags, MODE(flags)); }
int creat(const char *path, mode_t mode) { return do_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) fds[fd].watched = fds[fd].acks = 0;
    return syscall(SYS_close, fd);
}

/* libc closes the descriptor without calling the shim. */
int fclose(FILE *file) {
    static int (*next)(FILE *);
    if (!next) next = dlsym(RTLD_NEXT, "fclose");
    int fd = fileno(file);
    if (fd >= 0 && fd < FDS) fds[fd].watched = fds[fd].acks = 0;
    return next(file);
}

static int copied(int from, int to) {
    if (to >= 0 && to < FDS && from >= 0 && from < FDS) fds[to] = fds[from];
    return to;
}
int dup(int fd) { return copied(fd, syscall(SYS_dup, fd)); }
int dup2(int fd, int to) { return copied(fd, syscall(SYS_dup2, fd, to)); }
int dup3(int fd, int to, int flags) { return copied(fd, syscall(SYS_dup3, fd, to, flags)); }
static int do_fcntl(int fd, int command, void *argument) {
    int result = syscall(SYS_fcntl, fd, command, argument);
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}
#define ARGUMENT(last) ({ va_list list; va_start(list, last); void *a = va_arg(list, void *); va_end(list); a; })
int fcntl(int fd, int command, ...) { return do_fcntl(fd, command, ARGUMENT(command)); }
int fcntl64(int fd, int command, ...) { return do_fcntl(fd, command, ARGUMENT(command)); }

/* A failing write writes the first half, as on a disk that fills up, and fails when called for the rest. */
static ssize_t do_write(int fd, const void *data, size_t len, off_t at, int is_positioned) {
    if (fd >= 0 && fd < FDS && fds[fd].acks) {
        enter();
        ssize_t done = syscall(SYS_write, fd, data, len);
        if (done > 0) note(ACK, 0, 0, 0, NULL, data, done);
        return leave(0), done;
    }
    int watched = is_watched_fd(fd);
    if (watched) {
        enter();
        if (fds[fd].fails) {
            fds[fd].fails = 0;
            errno = fault.what;
            return leave(-1);
        }
        if (hit('w', NULL, fd)) {
            if (len < 2) return leave(-1);
            fds[fd].fails = 1;
            len /= 2;
        }
    }
    ssize_t done = is_positioned ? syscall(SYS_pwrite64, fd, data, len, at) : syscall(SYS_write, fd, data, len);
    if (watched) {
        if (done > 0) {
            if (!is_positioned) at = syscall(SYS_lseek, fd, 0, SEEK_CUR) - done;
            note(WRITE, fds[fd].ino, at, 0, NULL, data, done);
        }
        leave(0);
    }
    return done;
}

ssize_t write(int fd, const void *data, size_t len) { return do_write(fd, data, len, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return do_write(fd, data, len, at, 1); }
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return do_write(fd, data, len, at, 1); }
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (is_watched_fd(fd)) return count ? do_write(fd, parts[0].iov_base, parts[0].iov_len, 0, 0) : 0;
    return syscall(SYS_writev, fd, parts, count);
}

static int fails_read(int fd) {
    if (!is_watched_fd(fd)) return 0;
    enter();
    return leave(hit('r', NULL, fd));
}
ssize_t read(int fd, void *into, size_t len) { return fails_read(fd) ? -1 : syscall(SYS_read, fd, into, len); }
ssize_t pread(int fd, void *into, size_t len, off_t at) {
    return fails_read(fd) ? -1 : syscall(SYS_pread64, fd, into, len, at);
}
ssize_t pread64(int fd, void *into, size_t len, off64_t at) {
    return fails_read(fd) ? -1 : syscall(SYS_pread64, fd, into, len, at);
}
/* RocksDB reads its logs with this call. */
#undef fread_unlocked
size_t fread_unlocked(void *into, size_t size, size_t count, FILE *file) {
    static size_t (*next)(void *, size_t, size_t, FILE *);
    if (!next) next = dlsym(RTLD_NEXT, "fread_unlocked");
    return fails_read(fileno(file)) ? 0 : next(into, size, count, file);
}

static int do_sync(int fd, long call) {
    if (!is_watched_fd(fd)) return syscall(call, fd);
    static uint64_t begun;
    uint64_t ino = fds[fd].ino;
    enter();
    /* Two threads may sync one file at once, and the one that began later may end first. */
    uint64_t number = ++begun;
    note(BEGIN_SYNC, ino, number, 0, NULL, NULL, 0);
    int result = hit('s', NULL, fd) ? -1 : 0;
    leave(0);
    if (!result && sync_us < 0) result = syscall(call, fd);
    else if (!result && sync_us) usleep(sync_us);
    enter();
    note(END_SYNC, ino, number, result, NULL, NULL, 0);
    return leave(result);
}
int fsync(int fd) { return do_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return do_sync(fd, SYS_fdatasync); }

/* Starts writing back, and promises nothing. */
int sync_file_range(int fd, off64_t at, off64_t len, unsigned flags) {
    if (!is_watched_fd(fd)) return syscall(SYS_sync_file_range, fd, at, len, flags);
    enter();
    return leave(hit('s', NULL, fd) ? -1 : 0);
}

static int do_rename(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    char old[PATH_LEN], new[PATH_LEN];
    int from_watched = is_watched(from_at, from, old), to_watched = is_watched(to_at, to, new);
    if (from_watched != to_watched || (from_watched && flags)) die("a rename across the directory");
    if (!from_watched) return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    enter();
    if (hit('n', old, -1)) return leave(-1);
    int result = syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (!result) note(RENAME, 0, 0, 0, old, new, strlen(new));
    return leave(result);
}
int rename(const char *from, const char *to) { return do_rename(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return do_rename(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned f) { return do_rename(a, from, b, to, f); }

static int do_unlink(int at, const char *path, int flags) {
    char full[PATH_LEN];
    if (!is_watched(at, path, full)) return syscall(SYS_unlinkat, at, path, flags);
    enter();
    if (hit('u', full, -1)) return leave(-1);
    int result = syscall(SYS_unlinkat, at, path, flags);
    if (!result) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, 0, full, NULL, 0);
    return leave(result);
}
int unlink(const char *path) { return do_unlink(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return do_unlink(at, path, flags); }
int rmdir(const char *path) { return do_unlink(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int at, const char *path, mode_t mode) {
    char full[PATH_LEN];
    if (!is_watched(at, path, full)) return syscall(SYS_mkdirat, at, path, mode);
    enter();
    if (hit('m', full, -1)) return leave(-1);
    int result = syscall(SYS_mkdirat, at, path, mode);
    if (!result) note(MKDIR, ino_of(full), 0, 0, full, NULL, 0);
    return leave(result);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    char old[PATH_LEN], new[PATH_LEN];
    int from_watched = is_watched(from_at, from, old), to_watched = is_watched(to_at, to, new);
    if (from_watched != to_watched) die("a link across the directory");
    if (!from_watched) return syscall(SYS_linkat, from_at, from, to_at, to, flags);
    enter();
    if (hit('m', old, -1)) return leave(-1);
    int result = syscall(SYS_linkat, from_at, from, to_at, to, flags);
    if (!result) note(LINK, 0, 0, 0, old, new, strlen(new));
    return leave(result);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int do_truncate(int fd, off_t len) {
    if (!is_watched_fd(fd)) return syscall(SYS_ftruncate, fd, len);
    enter();
    if (hit('m', NULL, fd)) return leave(-1);
    int result = syscall(SYS_ftruncate, fd, len);
    if (!result) note(TRUNCATE, fds[fd].ino, len, 0, NULL, NULL, 0);
    return leave(result);
}
int ftruncate(int fd, off_t len) { return do_truncate(fd, len); }
int ftruncate64(int fd, off64_t len) { return do_truncate(fd, len); }

static int do_fallocate(int fd, int mode, off_t at, off_t len) {
    if (!is_watched_fd(fd)) return syscall(SYS_fallocate, fd, mode, at, len);
    enter();
    if (hit('m', NULL, fd)) return leave(-1);
    struct stat found;
    syscall(SYS_fstat, fd, &found);
    int frees_past_end = mode == (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) && at >= found.st_size;
    if ((mode & ~FALLOC_FL_KEEP_SIZE) && !frees_past_end) die("a fallocate that changes bytes");
    int result = syscall(SYS_fallocate, fd, mode, at, len);
    syscall(SYS_fstat, fd, &found);
    if (!result && !mode) note(TRUNCATE, fds[fd].ino, found.st_size, 0, NULL, NULL, 0);
    return leave(result);
}
int fallocate(int fd, int mode, off_t at, off_t len) { return do_fallocate(fd, mode, at, len); }
int fallocate64(int fd, int mode, off64_t at, off64_t len) { return do_fallocate(fd, mode, at, len); }

/* Calls that could change the directory without a record. */
void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t from) {
    if ((flags & MAP_SHARED) && (prot & PROT_WRITE) && is_watched_fd(fd)) die("a shared mapping that is written");
    return (void *)syscall(SYS_mmap, at, len, prot, flags, fd, from);
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t len, unsigned flags) {
    if (is_watched_fd(to)) { errno = ENOSYS; return -1; }
    return syscall(SYS_copy_file_range, from, a, to, b, len, flags);
}
ssize_t sendfile(int to, int from, off_t *at, size_t len) {
    if (is_watched_fd(to)) { errno = ENOSYS; return -1; }
    return syscall(SYS_sendfile, to, from, at, len);
}
