// Threads that work through one step together. They wait by spinning for a bounded time, then give their core away and
// at last sleep: on a busy machine an unbounded spin keeps the very thread from running that it waits for.

#ifndef ZHUMO_TEAM_H
#define ZHUMO_TEAM_H

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "core.h"

enum { SPINS = 2000, YIELDS = 50 };

struct Team {
    atomic_uint epoch, gate, arrived, next, sleepers;
    int threads, closing;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    Run run;
    const Work *work;
    pthread_t others[];
};

static inline void rest(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void wait_for_change(Team *team, atomic_uint *word, unsigned known) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(word) != known) return;
        rest();
    }
    for (int i = 0; i < YIELDS; i++) {
        if (atomic_load(word) != known) return;
        sched_yield();
    }
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(word) == known) pthread_cond_wait(&team->changed, &team->lock);
    atomic_fetch_sub(&team->sleepers, 1);
    pthread_mutex_unlock(&team->lock);
}

static void change(Team *team, atomic_uint *word) {
    atomic_fetch_add(word, 1);
    if (atomic_load(&team->sleepers)) {
        pthread_mutex_lock(&team->lock);
        pthread_cond_broadcast(&team->changed);
        pthread_mutex_unlock(&team->lock);
    }
}

// Until all threads have come here. The last one opens the gate and begins the next count of units.
static void meet(Team *team) {
    if (team->threads == 1) {
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        return;
    }
    unsigned known = atomic_load(&team->gate);
    if (atomic_fetch_add(&team->arrived, 1) + 1 < (unsigned)team->threads) {
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
    if (team->threads == 1) {
        *first = (int)atomic_load_explicit(&team->next, memory_order_relaxed);
        atomic_store_explicit(&team->next, (unsigned)units, memory_order_relaxed);
        return units;
    }
    int share = units / (4 * team->threads);
    if (share < 1) share = 1;
    int start = (int)atomic_fetch_add(&team->next, (unsigned)share);
    *first = start < units ? start : units;
    return start + share < units ? start + share : units;
}

typedef struct {
    Team *team;
    int thread;
} Member;

static void *live(void *argument) {
    Member member = *(Member *)argument;
    free(argument);
    Team *team = member.team;
    for (unsigned known = 0;; known++) {
        wait_for_change(team, &team->epoch, known);
        if (team->closing) return NULL;
        team->run(team->work, member.thread);
        meet(team);
    }
}

static void run_together(Team *team, Run run, const Work *work) {
    team->run = run;
    team->work = work;
    change(team, &team->epoch);
    run(work, 0);
    meet(team);
}

static void close_team(Team *team) {
    team->closing = 1;
    change(team, &team->epoch);
    for (int i = 1; i < team->threads; i++) pthread_join(team->others[i - 1], NULL);
    pthread_cond_destroy(&team->changed);
    pthread_mutex_destroy(&team->lock);
    free(team);
}

// NULL where the system gives no memory or no thread.
static Team *open_team(int threads) {
    Team *team = calloc(1, sizeof(Team) + (size_t)threads * sizeof(pthread_t));
    if (!team) return NULL;
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->changed, NULL);
    for (team->threads = 1; team->threads < threads; team->threads++) {
        Member *member = malloc(sizeof(Member));
        if (member) *member = (Member){team, team->threads};
        if (!member || pthread_create(&team->others[team->threads - 1], NULL, live, member)) {
            free(member);
            close_team(team);
            return NULL;
        }
    }
    return team;
}

#endif
