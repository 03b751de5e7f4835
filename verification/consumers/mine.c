/* Three ops, to be replaced by yours; with WRONG in the environment, each makes a known mistake. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct { char name[100]; double entries[1000]; } kept[100];
static double answers[1000];

void keep(const char *name, const double *entries, int size) {
    int k = 0;
    while (kept[k].name[0] && strcmp(kept[k].name, name)) k++;
    if (k == 99 || size > 1000) exit(3);
    strcpy(kept[k].name, name);
    memcpy(kept[k].entries, entries, size * sizeof *entries);
}

static const double *get(const char *name) {
    for (int k = 0; kept[k].name[0]; k++)
        if (!strcmp(kept[k].name, name)) return kept[k].entries;
    exit(3);
}

static void gae_rollout(int wrong, int targets) { /* wrong: gae-done-late */
    int T = *get("T"), E = *get("E");
    const double *rewards = get("rewards"), *values = get("values"), *dones = get("dones");
    const double *last = get("last_values"), gamma = *get("gamma"), lambda = *get("gae_lambda");
    for (int e = 0; e < E; e++) {
        double advantage = 0;
        for (int t = T - 1; t >= 0; t--) {
            int i = t * E + e, open = t == T - 1;
            double alive = 1 - dones[wrong && !open ? i + E : i], next = open ? last[e] : values[i + E];
            advantage = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * advantage;
            answers[i] = targets ? advantage + values[i] : advantage;
        }
    }
}

static void clipped_objective(int wrong) { /* wrong: clip-min-before-adv */
    const double *old = get("old_log_prob"), *new = get("new_log_prob"), *A = get("advantages");
    double clip = *get("clip"), sum = 0;
    int B = *get("B");
    for (int b = 0; b < B; b++) {
        double r = exp(new[b] - old[b]), c = fmin(fmax(r, 1 - clip), 1 + clip);
        sum += wrong ? fmin(r, c) * A[b] : fmin(r * A[b], c * A[b]);
    }
    *answers = sum / B;
}

static void kl_diagonal_gaussian(int wrong) { /* wrong: kl-reversed */
    const double *m0 = get(wrong ? "new_mean" : "old_mean"), *s0 = get(wrong ? "new_log_std" : "old_log_std");
    const double *m1 = get(wrong ? "old_mean" : "new_mean"), *s1 = get(wrong ? "old_log_std" : "new_log_std");
    int B = *get("B"), A = *get("A");
    for (int i = 0; i < B * A; i++) {
        double scale = exp(s0[i] - s1[i]), shift = (m0[i] - m1[i]) / exp(s1[i]);
        double term = s1[i] - s0[i] + 0.5 * (scale * scale + shift * shift - 1);
        answers[i / A] = i % A ? answers[i / A] + term : term;
    }
}

const double *answer(const char *op, const char *leaf) {
    int wrong = getenv("WRONG") != NULL;
    if (!strcmp(op, "gae_rollout")) gae_rollout(wrong, !strcmp(leaf, "value_targets"));
    else if (!strcmp(op, "clipped_objective")) clipped_objective(wrong);
    else if (!strcmp(op, "kl_diagonal_gaussian")) kl_diagonal_gaussian(wrong);
    else exit(3);
    return answers;
}
