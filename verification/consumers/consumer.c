/* cc consumer.c -o consumer -lm && ./consumer EXPORT/2026.1 right|wrong      (reads the text form) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAYS = 100, ENTRIES = 1000 };
static struct { char name[200]; int size; double entries[ENTRIES]; } table[ARRAYS]; /* those of one case */
static int arrays, wrong;

static double *add(const char *keyword, const char *name, int size) {
    if (arrays == ARRAYS || size > ENTRIES) exit(3);
    snprintf(table[arrays].name, sizeof table->name, "%.19s %.179s", keyword, name);
    table[arrays].size = size;
    return table[arrays++].entries;
}

static double *get(const char *keyword, const char *name) { /* the first of that name: of the default conventions */
    char wanted[200];
    snprintf(wanted, sizeof wanted, "%s %s", keyword, name);
    for (int k = 0; k < arrays; k++) if (!strcmp(table[k].name, wanted)) return table[k].entries;
    fprintf(stderr, "there is no %s\n", wanted);
    exit(3);
}

/* The implementation; if `wrong`, with a known mistake in each function. */

static void gae_rollout(void) { /* gae-done-late */
    int T = *get("dim", "T"), E = *get("dim", "E");
    double *rewards = get("input", "rewards"), *values = get("input", "values"), *dones = get("input", "dones");
    double *last = get("input", "last_values"), gamma = *get("input", "gamma"), lambda = *get("input", "gae_lambda");
    double *advantages = add("answer", "advantages", T * E), *targets = add("answer", "value_targets", T * E);
    for (int e = 0; e < E; e++) {
        double running = 0;
        for (int t = T - 1; t >= 0; t--) {
            int i = t * E + e, open = t == T - 1;
            double alive = 1 - dones[wrong && !open ? i + E : i], next = open ? last[e] : values[i + E];
            running = rewards[i] + gamma * next * alive - values[i] + gamma * lambda * alive * running;
            advantages[i] = running;
            targets[i] = running + values[i];
        }
    }
}

static void clipped_objective(void) { /* clip-min-before-adv */
    int B = *get("dim", "B");
    double *old = get("input", "old_log_prob"), *new = get("input", "new_log_prob"), *A = get("input", "advantages");
    double clip = *get("input", "clip"), sum = 0;
    for (int b = 0; b < B; b++) {
        double r = exp(new[b] - old[b]), c = fmin(fmax(r, 1 - clip), 1 + clip);
        sum += wrong ? fmin(r, c) * A[b] : fmin(r * A[b], c * A[b]);
    }
    *add("answer", "objective", 1) = sum / B;
}

static void kl_diagonal_gaussian(void) { /* kl-reversed */
    int B = *get("dim", "B"), A = *get("dim", "A");
    double *m0 = get("input", wrong ? "new_mean" : "old_mean"), *m1 = get("input", wrong ? "old_mean" : "new_mean");
    double *s0 = get("input", wrong ? "new_log_std" : "old_log_std");
    double *s1 = get("input", wrong ? "old_log_std" : "new_log_std");
    double *kl = add("answer", "kl", B);
    for (int i = 0; i < B * A; i++) {
        double scale = exp(s0[i] - s1[i]), shift = (m0[i] - m1[i]) / exp(s1[i]);
        kl[i / A] = (i % A ? kl[i / A] : 0) + s1[i] - s0[i] + 0.5 * (scale * scale + shift * shift - 1);
    }
}

/* The judge. */

static void read(FILE *file, const char *keyword) { /* NAME KIND RANK LENGTH… ENTRY… */
    char name[180], kind[20];
    int rank, length, size = 1;
    if (fscanf(file, "%179s %19s %d", name, kind, &rank) != 3) exit(3);
    for (; rank; rank--, size *= length) if (fscanf(file, "%d", &length) != 1 || length > ENTRIES) exit(3);
    double *entries = add(keyword, name, size);
    for (int i = 0; i < size; i++) if (fscanf(file, "%lf", entries + i) != 1) exit(3);
}

static double worst(double unit, double floor) { /* the largest error, in tolerances */
    double worst = 0;
    for (int k = 0; k < arrays; k++) {
        if (strncmp(table[k].name, "value ", 6)) continue;
        const char *leaf = table[k].name + 6;
        double *value = table[k].entries, *answer = get("answer", leaf), *R = get("R", leaf);
        if (value != get("value", leaf)) continue; /* of another answer, under other conventions */
        for (int i = 0; i < table[k].size; i++) {
            double half_ulp = 0.5 * (nextafter(fabs(value[i]), INFINITY) - fabs(value[i]));
            double tolerance = unit * fmax(R[i], floor * *get("largest", leaf)) + half_ulp;
            double error = fabs(answer[i] - value[i]) / tolerance;
            worst = isnan(error) ? INFINITY : fmax(worst, error);
        }
    }
    return worst;
}

int main(int argc, char **argv) {
    const char *ops[] = {"gae_rollout", "clipped_objective", "kl_diagonal_gaussian"};
    void (*functions[])(void) = {gae_rollout, clipped_objective, kl_diagonal_gaussian};
    int judged = 0, mismatches = 0, stability = 0;
    if (argc != 3) return 2;
    wrong = !strcmp(argv[2], "wrong");
    for (int op = 0; op < 3; op++) {
        char path[1000], word[200], id[200] = "";
        double factor = 0, floor = 0, u = 0;
        snprintf(path, sizeof path, "%s/%s.txt", argv[1], ops[op]);
        FILE *file = fopen(path, "r");
        if (!file) return perror(path), 2;
        while (fscanf(file, "%199s", word) == 1) {
            if (!strcmp(word, "tolerance") && fscanf(file, "%lf %lf", &factor, &floor) != 2) return 3;
            if (!strcmp(word, "roundoff") && fscanf(file, " float64 %lf", &u) == EOF) return 3;
            if (!strcmp(word, "case") && (arrays = 0, fscanf(file, "%199s %*d %d", id, &stability) != 2)) return 3;
            if (strstr(" dim input value R largest ", word)) read(file, word);
            if (!strcmp(word, "end") && stability) printf("NOT ASKED  %s\n", id);
            if (!strcmp(word, "end") && !stability) {
                functions[op]();
                double error = worst(factor * u, floor);
                printf("%-10s %s  %.2g x tolerance\n", error <= 1 ? "CONFORMS" : "WRONG", id, error);
                judged++, mismatches += !(error <= 1);
            }
            for (int c; (c = getc(file)) != '\n' && c != EOF;) {}
        }
        fclose(file);
    }
    printf("%d judged, %d wrong\n", judged, mismatches);
    return judged ? mismatches > 0 : 4;
}
