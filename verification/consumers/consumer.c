/* cc consumer.c mine.c -o consumer -lm && ./consumer < EXPORT/2026.1/OP.txt      (reads the text form) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void keep(const char *name, const double *entries, int size); /* in mine.c: an input of the case */
const double *answer(const char *op, const char *leaf);       /* in mine.c: what comes of the inputs kept */

enum { MOST = 10000 };
static char line[32 * MOST], op[100], name[100];
static double input[MOST], value[MOST], R[MOST];

static int numbers(int at, double *entries) { /* how many there are from that place of the line on */
    char *text = line + at, *end;
    for (int n = 0; n < MOST; n++, text = end) {
        entries[n] = strtod(text, &end);
        if (end == text) return n;
    }
    exit(3);
}

int main(void) {
    double u = 0, factor = 0, floor = 0, largest = 0;
    int at, cases, conventions = 0, stability = 0, conforms = 0, missing = 0, judged = 0, wrong = 0;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "refpg-vectors 1 %*s %99s %d", op, &cases) == 2) missing += cases;
        sscanf(line, "tolerance float64 %lf %lf %lf", &u, &factor, &floor);
        if (sscanf(line, "case %*s %*d %d", &stability) == 1) conforms = 1;
        if (sscanf(line, "dim %99s int 1 - %n", name, &at) == 1) keep(name, input, numbers(at, input));
        if (sscanf(line, "input %99s %*s %*d %*s %n", name, &at) == 1) keep(name, input, numbers(at, input));
        sscanf(line, "answer %d", &conventions);
        if (sscanf(line, "value %99s %*s %*d %*s %n", name, &at) == 1) numbers(at, value);
        sscanf(line, "largest %*s float 1 - %lf", &largest);
        if (sscanf(line, "R %99s float %*d %*s %n", name, &at) == 1 && conventions == 0 && !stability) {
            const double *answers = answer(op, name);
            for (int i = 0, size = numbers(at, R); i < size; i++) {
                double half_ulp = (nextafter(fabs(value[i]), INFINITY) - fabs(value[i])) / 2;
                double tolerance = factor * u * fmax(R[i], floor * largest) + half_ulp;
                conforms = conforms && fabs(answers[i] - value[i]) <= tolerance;
            }
        }
        if (sscanf(line, "end %99s", name) == 1) {
            printf("%-10s %s\n", stability ? "NOT ASKED" : conforms ? "CONFORMS" : "WRONG", name);
            missing--, judged += !stability, wrong += !conforms;
        }
    }
    printf("%d judged, %d wrong, %d missing\n", judged, wrong, missing);
    return missing || !judged ? 4 : wrong > 0;
}
