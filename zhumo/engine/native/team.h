// Threads that work through one step together. They wait by spinning for a bounded time, then give their core away and
// at last sleep: on a busy machine an unbounded spin keeps the very thread from running that it waits for.

#ifndef ZHUMO_TEAM_H
#define ZHUMO_TEAM_H

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "core.h"

enum { SPINS = 2000, YIELDS = 50 };

typedef struct {  // something that changes, and those who sleep until it does
    atomic_uint word, sleepers;
    pthread_cond_t changed;
} Sign;

typedef struct {
    Team *team;
    pthread_t thread;
    Sign bell;  // changes when this one is to work
    int number;
} Member;

struct Team {
    Sign gate;  // changes when all who work have met
    atomic_uint arrived, next;
    atomic_ullong had;             // nanoseconds of processors that all had together in this step
    int threads, active, closing;  // active: so many of the threads, the first ones, work on this step
    pthread_mutex_t lock;
    Run run;
    const Work *work;
    Member members[];  // the first is whoever calls
};

static inline void rest(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void wait_for_change(Team *team, Sign *sign, unsigned known) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&sign->word) != known) return;
        rest();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load(&sign->word) != known) return;
        sched_yield();
    }
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&sign->sleepers, 1);
    while (atomic_load(&sign->word) == known) pthread_cond_wait(&sign->changed, &team->lock);
    atomic_fetch_sub(&sign->sleepers, 1);
    pthread_mutex_unlock(&team->lock);
}

static void change(Team *team, Sign *sign) {
    atomic_fetch_add(&sign->word, 1);
    if (atomic_load(&sign->sleepers)) {
        pthread_mutex_lock(&team->lock);
        pthread_cond_broadcast(&sign->changed);
        pthread_mutex_unlock(&team->lock);
    }
}

// Until all who work have come here. The last one opens the gate and begins the next count of units.
static void meet(Team *team) {
    unsigned all = (unsigned)team->active;  // before others may see that this one is here, and go on to another step
    if (all == 1) {
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        return;
    }
    unsigned known = atomic_load(&team->gate.word);
    if (atomic_fetch_add(&team->arrived, 1) + 1 < all) {
        wait_for_change(team, &team->gate, known);
        return;
    }
    atomic_store(&team->arrived, 0);
    atomic_store(&team->next, 0);
    change(team, &team->gate);
}

// The next few of `units` nobody has taken: from *first up to the return value; equal where none are left. A thread
// that is slow because somebody else has its core takes fewer.
static int take(Team *team, int units, int *first) {
    if (team->active == 1) {
        *first = (int)atomic_load_explicit(&team->next, memory_order_relaxed);
        atomic_store_explicit(&team->next, (unsigned)units, memory_order_relaxed);
        return units;
    }
    int share = units / (4 * team->active);
    if (share < 1) share = 1;
    int start = (int)atomic_fetch_add(&team->next, (unsigned)share);
    *first = start < units ? start : units;
    return start + share < units ? start + share : units;
}

static unsigned long long nanoseconds(clockid_t clock) {
    struct timespec found;
    clock_gettime(clock, &found);
    return found.tv_sec * 1000000000ULL + (unsigned long long)found.tv_nsec;
}

static void take_part(Team *team, int number) {
    unsigned long long before = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    team->run(team->work, number);
    atomic_fetch_add(&team->had, nanoseconds(CLOCK_THREAD_CPUTIME_ID) - before);
    meet(team);
}

static void *live(void *argument) {
    Member *self = argument;
    for (unsigned known = 0;; known++) {
        wait_for_change(self->team, &self->bell, known);
        if (self->team->closing) return NULL;
        take_part(self->team, self->number);
    }
}

// So many threads do `run`. Returns the seconds that it took; had: those of processors that they had together.
static double run_together(Team *team, int active, Run run, const Work *what, double *had) {
    unsigned long long before = nanoseconds(CLOCK_MONOTONIC);
    team->active = active;
    team->run = run;
    team->work = what;
    atomic_store(&team->had, 0);
    for (int i = 1; i < active; i++) change(team, &team->members[i].bell);
    take_part(team, 0);
    *had = 1e-9 * (double)atomic_load(&team->had);
    return 1e-9 * (double)(nanoseconds(CLOCK_MONOTONIC) - before);
}

static void close_team(Team *team) {
    team->closing = 1;
    for (int i = 1; i < team->threads; i++) {
        change(team, &team->members[i].bell);
        pthread_join(team->members[i].thread, NULL);
        pthread_cond_destroy(&team->members[i].bell.changed);
    }
    pthread_cond_destroy(&team->gate.changed);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

// NULL where the system gives no memory or no thread.
static Team *open_team(int threads) {
    Team *team = calloc(1, sizeof(Team) + (size_t)threads * sizeof(Member));
    if (!team) return NULL;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->gate.changed, NULL);
    for (team->threads = 1; team->threads < threads; team->threads++) {
        Member *member = team->members + team->threads;
        member->team = team;
        member->number = team->threads;
        pthread_cond_init(&member->bell.changed, NULL);
        if (pthread_create(&member->thread, NULL, live, member)) {
            pthread_cond_destroy(&member->bell.changed);
            close_team(team);
            return NULL;
        }
    }
    return team;
}

#endif
