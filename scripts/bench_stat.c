/* SPDX-License-Identifier: MIT
 * What no walk can be faster than: getdents64 and statx of every entry of a tree, by some threads, and nothing else. And
 * what a change of owners takes at least in that order: fchownat of every entry, without a look at it.
 *
 *   bench_stat THREADS DIRECTORY           one system call for each entry
 *   bench_stat THREADS DIRECTORY DEPTH     the same by io_uring, so many of a directory's entries in one call
 *   bench_stat THREADS DIRECTORY 0 OWNER   fchownat to a user and group of that number
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry { unsigned long ino; long next; unsigned short length; unsigned char type; char name[]; };

/* A thread's ring, and the names whose answers it waits for. */
struct ring {
    int fd;
    unsigned *tail, *mask, *array, *done_head, *done_tail, depth, filled;
    struct io_uring_sqe *requests;
    struct statx *answers;
    char (*names)[256];
};
static unsigned depth;
static uid_t owner = -1;
/* Whether a call failed: what was measured is not what was asked for. */
static _Atomic int failed;

static char **waiting;
static size_t count, room, busy;
static unsigned long total;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;

static void push(char *path) {
    if (count == room) waiting = realloc(waiting, (room = room * 2 + 64) * sizeof *waiting);
    waiting[count++] = path;
}

static void make_ring(struct ring *ring) {
    struct io_uring_params told = {0};
    ring->depth = depth;
    ring->fd = syscall(SYS_io_uring_setup, depth, &told);
    if (ring->fd < 0) { perror("io_uring_setup"); exit(1); }
    size_t size = told.sq_off.array + told.sq_entries * sizeof(unsigned);
    size_t done = told.cq_off.cqes + told.cq_entries * sizeof(struct io_uring_cqe);
    if (done > size) size = done;
    char *at = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
    ring->requests = mmap(0, told.sq_entries * sizeof *ring->requests, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
    if (at == MAP_FAILED || ring->requests == MAP_FAILED) { perror("mmap"); exit(1); }
    ring->tail = (void *)(at + told.sq_off.tail);
    ring->mask = (void *)(at + told.sq_off.ring_mask);
    ring->array = (void *)(at + told.sq_off.array);
    ring->done_head = (void *)(at + told.cq_off.head);
    ring->done_tail = (void *)(at + told.cq_off.tail);
    ring->answers = malloc(depth * sizeof *ring->answers);
    ring->names = malloc(depth * sizeof *ring->names);
}

/* Hands all in and waits for their answers. */
static void flush(struct ring *ring) {
    while (ring->filled) {
        long handed = syscall(SYS_io_uring_enter, ring->fd, ring->filled, ring->filled, IORING_ENTER_GETEVENTS, 0, 0);
        if (handed < 0) { perror("io_uring_enter"); exit(1); }
        ring->filled -= handed;
    }
    __atomic_store_n(ring->done_head, __atomic_load_n(ring->done_tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

static void ask(struct ring *ring, int fd, const char *name) {
    unsigned tail = *ring->tail, slot = tail & *ring->mask;
    strcpy(ring->names[slot], name);
    ring->requests[slot] = (struct io_uring_sqe){
        .opcode = IORING_OP_STATX, .fd = fd, .addr = (unsigned long)ring->names[slot], .off = (unsigned long)&ring->answers[slot],
        .len = STATX_TYPE | STATX_MODE | STATX_UID | STATX_GID | STATX_NLINK | STATX_INO,
        .statx_flags = AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC};
    ring->array[slot] = slot;
    __atomic_store_n(ring->tail, tail + 1, __ATOMIC_RELEASE);
    if (++ring->filled == ring->depth) flush(ring);
}

static void *work(void *unused) {
    struct ring ring = {.depth = 0};
    if (depth) make_ring(&ring);
    char *buffer = malloc(1 << 16), *below[1 << 12];
    for (;;) {
        pthread_mutex_lock(&lock);
        while (count == 0 && busy) pthread_cond_wait(&news, &lock);
        if (count == 0) { pthread_cond_broadcast(&news); pthread_mutex_unlock(&lock); return unused; }
        char *path = waiting[--count];
        busy++;
        pthread_mutex_unlock(&lock);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOATIME | O_NOFOLLOW);
        if (fd < 0) { perror(path); failed = 1; }
        unsigned long seen = 0;
        size_t found = 0;
        for (long got; fd >= 0 && (got = syscall(SYS_getdents64, fd, buffer, 1 << 16)) > 0;) {
            for (long at = 0; at < got;) {
                struct entry *entry = (void *)(buffer + at);
                at += entry->length;
                if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..")) continue;
                if (depth) {
                    /* What is a directory its parent tells. */
                    ask(&ring, fd, entry->name);
                    seen++;
                    char *child;
                    if (entry->type == 4 && asprintf(&child, "%s/%s", path, entry->name) > 0) below[found++] = child;
                    if (found == 1 << 12) {
                        pthread_mutex_lock(&lock);
                        while (found) push(below[--found]);
                        pthread_mutex_unlock(&lock);
                    }
                    continue;
                }
                struct statx stat = {.stx_mode = entry->type << 12};
                int done = owner != (uid_t)-1
                    ? fchownat(fd, entry->name, owner, owner, AT_SYMLINK_NOFOLLOW)
                    : statx(fd, entry->name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC,
                            STATX_TYPE | STATX_MODE | STATX_UID | STATX_GID | STATX_NLINK | STATX_INO, &stat);
                if (done != 0) { perror(entry->name); failed = 1; }
                seen++;
                char *child;
                if (!S_ISDIR(stat.stx_mode) || asprintf(&child, "%s/%s", path, entry->name) < 0) continue;
                below[found++] = child;
                if (found < 1 << 12) continue;
                pthread_mutex_lock(&lock);
                while (found) push(below[--found]);
                pthread_mutex_unlock(&lock);
            }
        }
        if (depth) flush(&ring);
        if (fd >= 0) close(fd);
        free(path);
        pthread_mutex_lock(&lock);
        busy--;
        total += seen;
        while (found) push(below[--found]);
        pthread_cond_broadcast(&news);
        pthread_mutex_unlock(&lock);
    }
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 5) return 2;
    if (argc > 3) depth = atoi(argv[3]);
    if (argc > 4) owner = atoi(argv[4]);
    if (depth && argc > 4) return 2;
    int threads = atoi(argv[1]);
    pthread_t thread[256];
    if (threads < 1 || threads > 256) return 2;
    push(strdup(argv[2]));
    for (int i = 0; i < threads; i++) pthread_create(thread + i, 0, work, 0);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], 0);
    printf("%lu entries\n", total);
    return failed;
}
