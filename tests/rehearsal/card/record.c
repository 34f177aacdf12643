/* What each process has of the card and did on it, in one file that all processes of a card share.
 *
 * So trials that share a card run out of its memory together, and whoever started them reads afterwards what each
 * did. Without a file a process has the card to itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "card.h"

#define PROCESSES 4096
#define COMMAND 248

/* rehearsal/record.py reads this. */
struct record {
    int process;
    int entered;
    long live, peak; /* bytes, the context included */
    long counters[COUNTER_COUNT];
    char command[COMMAND];
};

struct file {
    long used;
    struct record records[PROCESSES];
};

static struct file *shared;
static struct record *mine;
static int descriptor = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

const char *null_card_counters(void) {
#define AS_TEXT(name) #name " "
    return COUNTERS(AS_TEXT);
}

static void describe(struct record *record) {
    FILE *file = fopen("/proc/self/cmdline", "r");
    if (!file)
        return;
    size_t length = fread(record->command, 1, COMMAND - 1, file);
    for (size_t i = 0; i + 1 < length; i++)
        if (record->command[i] < ' ')
            record->command[i] = ' ';
    fclose(file);
}

static void forget(void) {
    /* In a child of fork: the memory and the record are the parent's. */
    mine = NULL;
    if (descriptor >= 0)
        close(descriptor);
    descriptor = -1;
    shared = NULL;
    pthread_mutex_init(&mutex, NULL);
}

static void open_file(void) {
    int flags = MAP_SHARED;
    if (settings.record) {
        descriptor = open(settings.record, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (descriptor < 0 || ftruncate(descriptor, sizeof *shared)) {
            fprintf(stderr, "null card: %s can't be written: %s\n", settings.record, strerror(errno));
            abort();
        }
    } else
        flags |= MAP_ANONYMOUS;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (shared == MAP_FAILED)
        abort();
}

static struct record *record(void) {
    struct record *found = __atomic_load_n(&mine, __ATOMIC_ACQUIRE);
    if (found)
        return found;
    pthread_mutex_lock(&mutex);
    if (!mine) {
        static bool handled;
        if (!handled)
            pthread_atfork(NULL, NULL, forget);
        handled = true;
        open_file();
        long index = __atomic_fetch_add(&shared->used, 1, __ATOMIC_RELAXED);
        if (index >= PROCESSES) {
            fprintf(stderr, "null card: more than %d processes in %s\n", PROCESSES, settings.record);
            abort();
        }
        found = &shared->records[index];
        describe(found);
        found->process = getpid();
        __atomic_store_n(&mine, found, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&mutex);
    return mine;
}

void count_many(enum counter which, long number) {
    __atomic_fetch_add(&record()->counters[which], number, __ATOMIC_RELAXED);
}

void count(enum counter which) {
    count_many(which, 1);
}

long null_card_counter(int which) {
    return __atomic_load_n(&record()->counters[which], __ATOMIC_RELAXED);
}

long null_card_peak(void) {
    return record()->peak;
}

/* ---- Bytes ---- */

static void lock(void) {
    record();
    pthread_mutex_lock(&mutex);
    while (descriptor >= 0 && flock(descriptor, LOCK_EX) && errno == EINTR)
        ;
}

static void unlock(void) {
    if (descriptor >= 0)
        flock(descriptor, LOCK_UN);
    pthread_mutex_unlock(&mutex);
}

static bool has_ended(int process) {
    char path[64], state = 'Z';
    if (kill(process, 0) && errno == ESRCH)
        return true;
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    FILE *file = fopen(path, "r");
    if (!file)
        return true;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 'R';
    fclose(file);
    return state == 'Z' || state == 'X';
}

/* What all living processes have; the driver takes back what the dead had. */
static long taken(void) {
    long sum = 0;
    for (long i = 0; i < shared->used && i < PROCESSES; i++) {
        struct record *each = &shared->records[i];
        if (each->live && each != mine && has_ended(each->process))
            each->live = each->entered = 0;
        sum += each->live;
    }
    return sum;
}

static bool take_locked(long bytes) {
    if (taken() + bytes > settings.bytes)
        return false;
    mine->live += bytes;
    if (mine->live > mine->peak)
        mine->peak = mine->live;
    return true;
}

static bool enter_locked(void) {
    if (!mine->entered && take_locked(settings.context))
        mine->entered = 1;
    return mine->entered;
}

bool entered(void) {
    return record()->entered;
}

bool enter(void) {
    if (entered())
        return true;
    lock();
    bool fits = enter_locked();
    unlock();
    return fits;
}

bool take(long bytes) {
    lock();
    bool fits = enter_locked() && take_locked(bytes);
    unlock();
    return fits;
}

void give_back(long bytes) {
    lock();
    mine->live -= bytes;
    unlock();
}

long free_bytes(void) {
    lock();
    long left = settings.bytes - taken();
    unlock();
    return left;
}

__attribute__((destructor)) static void leave(void) {
    if (mine)
        mine->live = mine->entered = 0;
}
