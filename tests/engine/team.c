// The threads of the native core under the thread sanitiser, ever more and fewer of them; run by test_sanitised.py.

#include <stdio.h>
#include <string.h>

#include "core.h"
#include "team.h"

enum { THREADS = 4, STEPS = 2000, PHASES = 5, UNITS = 40 };

static Team *team;
static int done[PHASES][UNITS];

static void run(const Work *work, int thread) {
    (void)work, (void)thread;
    int first, end;
    for (int phase = 0; phase < PHASES; phase++) {
        while ((end = take(team, UNITS, &first)) > first)
            for (int unit = first; unit < end; unit++) done[phase][unit]++;
        meet(team);
    }
}

int main(void) {
    static const int counts[] = {4, 1, 3, 2, 1, 4, 2, 3};
    double had;
    team = open_team(THREADS);
    for (int step = 0; step < STEPS; step++) {
        memset(done, 0, sizeof done);
        run_together(team, counts[step % 8], run, NULL, &had);
        for (int phase = 0; phase < PHASES; phase++)
            for (int unit = 0; unit < UNITS; unit++)
                if (done[phase][unit] != 1) return printf("unit %d was done %d times\n", unit, done[phase][unit]), 1;
    }
    close_team(team);
    return 0;
}
