/* SPDX-License-Identifier: MIT
 * What no walk can be faster than: getdents64 and statx of every entry of a tree, by some threads, and nothing else.
 *
 *   bench_stat THREADS DIRECTORY
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct entry { unsigned long ino; long next; unsigned short length; unsigned char type; char name[]; };

static char **waiting;
static size_t count, room, busy;
static unsigned long total;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;

static void push(char *path) {
    if (count == room) waiting = realloc(waiting, (room = room * 2 + 64) * sizeof *waiting);
    waiting[count++] = path;
}

static void *work(void *unused) {
    char *buffer = malloc(1 << 16), *below[1 << 12];
    for (;;) {
        pthread_mutex_lock(&lock);
        while (count == 0 && busy) pthread_cond_wait(&news, &lock);
        if (count == 0) { pthread_cond_broadcast(&news); pthread_mutex_unlock(&lock); return unused; }
        char *path = waiting[--count];
        busy++;
        pthread_mutex_unlock(&lock);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOATIME | O_NOFOLLOW);
        unsigned long seen = 0;
        size_t found = 0;
        for (long got; fd >= 0 && (got = syscall(SYS_getdents64, fd, buffer, 1 << 16)) > 0;) {
            for (long at = 0; at < got;) {
                struct entry *entry = (void *)(buffer + at);
                at += entry->length;
                if (!strcmp(entry->name, ".") || !strcmp(entry->name, "..")) continue;
                struct statx stat;
                statx(fd, entry->name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC,
                      STATX_TYPE | STATX_MODE | STATX_UID | STATX_GID | STATX_NLINK | STATX_INO, &stat);
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
    if (argc != 3) return 2;
    int threads = atoi(argv[1]);
    pthread_t thread[256];
    if (threads < 1 || threads > 256) return 2;
    push(strdup(argv[2]));
    for (int i = 0; i < threads; i++) pthread_create(thread + i, 0, work, 0);
    for (int i = 0; i < threads; i++) pthread_join(thread[i], 0);
    printf("%lu entries\n", total);
    return 0;
}
